//go:build !race

package ratelimit

import (
	"testing"

	"gateway.internal/dataplane/internal/exchange"
)

// several are limits as a route may have them.
var several = []string{
	`{"name": "client", "limit": 1000000000, "key": ["client_ip", "route", "header:X-Tenant"]}`,
	`{"name": "all", "algorithm": "fixed_window", "limit": 1000000000}`,
	`{"name": "now", "algorithm": "concurrency", "limit": 1000000000}`,
	`{"name": "leased", "limit": 1000000000, "store": "redis", "mode": "leased", "timeout": "10s"}`,
}

func TestAllocTake(t *testing.T) {
	n := together(t)
	s, refusing := n.set(t, several...), n.set(t, `{"name": "none", "limit": 1, "window": "1h"}`)
	x := request("192.0.2.1", false)
	x.Request.Header.Add("X-Tenant", "a")
	for name, set := range map[string]*Set{"passes": s, "refused": refusing} {
		tk, _ := set.Take(x) // where it waits for the first lease
		tk.End()
		x.InLoop = true
		if n := testing.AllocsPerRun(1000, func() {
			tk, v := set.Take(x)
			if v == exchange.Later {
				t.Fatal(v)
			}
			tk.Tell(x)
			tk.End()
			x.Response.Header.Reset()
			x.Texts = x.Texts[:0]
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		x.InLoop = false
	}
}

func BenchmarkSet(b *testing.B) {
	for name, limits := range map[string][]string{"one": several[:1], "three": several[:3]} {
		b.Run(name, func(b *testing.B) {
			s := newNode(b).set(b, limits...)
			x := request("192.0.2.1", true)
			x.Request.Header.Add("X-Tenant", "a")
			b.ReportAllocs()
			for b.Loop() {
				tk, _ := s.Take(x)
				tk.Tell(x)
				tk.End()
				x.Response.Header.Reset()
				x.Texts = x.Texts[:0]
			}
		})
	}
}
