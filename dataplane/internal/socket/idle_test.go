package socket

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// Whatever happens while the system is being told of a connection, one that is parked is woken, once, and one that is
// not never is.
func TestParkWhileOthersWake(t *testing.T) {
	for range 20 {
		i := NewIdleConns()
		if i == nil {
			t.Skip("nothing parks connections on this system")
		}
		var parkers sync.WaitGroup
		var parks, wakes atomic.Int32
		begun := make(chan struct{})
		for range 20 {
			near, _ := accepted(t)
			parkers.Go(func() {
				<-begun
				for range 20 {
					woken := make(chan struct{}, 1)
					id, ok := i.Park(near, time.Now().Add(time.Hour), func() {
						wakes.Add(1)
						woken <- struct{}{}
					})
					if !ok {
						return // it is closed
					}
					parks.Add(1)
					if id%3 == 0 {
						i.Wake(id)
					}
					waittest.Receive(t, "the connection wakes", woken)
				}
			})
		}
		close(begun)
		for parks.Load() < 100 {
			i.WakeAll()
		}
		i.Close()
		parkers.Wait()
		if p, w := parks.Load(), wakes.Load(); p != w {
			t.Errorf("%d were parked, %d wakes", p, w)
		}
		if n := i.Len(); n != 0 {
			t.Errorf("%d are parked when all is over", n)
		}
	}
}
