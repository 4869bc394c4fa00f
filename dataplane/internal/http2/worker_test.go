package http2

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// TestWorkers sees that the exchanges of a connection share goroutines, of which only some wait for the next requests,
// and none on a connection that rests.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 40
		h := &handler{hold: make(chan struct{}), holding: make(chan struct{}, many)}
		s := NewServer(codec.DefaultLimits(), h)
		near, far := net.Pipe()
		ended := make(chan struct{})
		go s.Serve(socket.New(near), exchange.NewPeer(near.RemoteAddr()), func() { close(ended) })
		k := talk(t, far)
		idle := func(want int, when string) {
			t.Helper()
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			for c := range s.conns {
				c.locked(func() {
					if n := len(c.idleWorkers); n != want {
						t.Errorf("%d goroutines wait %s, want %d", n, when, want)
					}
				})
			}
		}
		for range 10 {
			if got := k.outcome(k.ask("GET", "/", true)); got != "200" {
				t.Fatal(got)
			}
			idle(1, "after requests in turn")
		}
		var held []uint32
		for range many {
			held = append(held, k.ask("GET", "/hold", true))
		}
		for range many {
			<-h.holding
		}
		idle(0, "while requests are under way")
		close(h.hold)
		for _, id := range held {
			if got := k.outcome(id); got != "200" {
				t.Fatal(got)
			}
		}
		idle(maxIdleWorkers, "after many requests at once")
		time.Sleep(2 * lookAfter)
		idle(0, "on a connection that rests")
		if got := k.outcome(k.ask("GET", "/", true)); got != "200" {
			t.Fatal(got)
		}
		idle(1, "after it was used again")
		k.close()
		<-ended
	})
}
