package telemetry

import (
	"runtime"
	"sync/atomic"
	"testing"

	"gateway.internal/shared/waittest"
)

// TestNamed shares what has one name, and lets go of what nobody holds.
func TestNamed(t *testing.T) {
	var n Named[string, atomic.Uint64]
	a := n.Get("a")
	a.Add(1)
	if n.Get("a") != a || n.Get("b") == a {
		t.Error("one name has two counters, or two have one")
	}
	waittest.Until(t, "what nobody holds is gone", func() bool {
		runtime.GC()
		return n.Len() == 1
	})
	n.Each(func(name string, c *atomic.Uint64) {
		if name != "a" || c.Load() != 1 {
			t.Errorf("%s counts %d", name, c.Load())
		}
	})
	runtime.KeepAlive(a)
	waittest.Until(t, "the last one is gone too", func() bool {
		runtime.GC()
		return n.Len() == 0
	})
	if c := n.Get("a"); c.Load() != 0 {
		t.Error("what came back goes on with what was gone")
	}
}
