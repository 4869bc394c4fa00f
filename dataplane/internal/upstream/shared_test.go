package upstream

import (
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/http2"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// A connection may be over before the first call can begin on it: it is not kept.
func TestConnectionIsOverAtOnce(t *testing.T) {
	e := newEndpoint(place{entry: &configv1.Endpoint{Host: "127.0.0.1", Port: 1}}, slog.New(slog.DiscardHandler), newDials())
	e.set("s", config.Pool{}, &transport{http2: always})
	end := time.Now().Add(10 * time.Second)
	for met := false; !met; {
		if time.Now().After(end) {
			t.Fatal("no connection was over before its first call")
		}
		near, far := net.Pipe()
		_, _ = near.Close(), far.Close()
		e.mu.Lock()
		usable := e.share(near, e.how.Load())
		kept := len(e.sharing.conns)
		e.sharing.conns = nil
		e.unlock()
		if met = !usable; usable != (kept == 1) {
			t.Errorf("usable: %t; %d connections are kept", usable, kept)
		}
	}
}

// Calls go to the connection that carries the fewest.
func TestCallsGoToTheLeastLoaded(t *testing.T) {
	var s sharing
	over := &transport{http2: always}
	for range 3 {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		c := http2.NewClient(near, "http", false, nil)
		t.Cleanup(func() {
			c.Close()
			_ = far.Close()
		})
		s.conns = append(s.conns, sharedConn{Client: c, transport: over})
	}
	var calls []*http2.Call
	begin := func(n int) {
		for range n {
			calls = append(calls, s.begin(over, anyLoad, false).(*http2.Call))
		}
	}
	loads := func() (n [3]int) {
		for i, c := range s.conns {
			n[i], _ = c.Load(false)
		}
		return n
	}
	begin(9)
	if n := loads(); n != [3]int{3, 3, 3} {
		t.Errorf("9 calls are on the connections as %v", n)
	}
	for i, c := range calls { // each third is on the same
		if i%3 == 1 {
			c.Release(time.Now())
		}
	}
	begin(2)
	if n := loads(); n != [3]int{3, 2, 3} {
		t.Errorf("once one is empty, 2 more calls are on the connections as %v", n)
	}
	for i, c := range calls {
		if i >= 9 || i%3 != 1 {
			c.Release(time.Now())
		}
	}
}
