package http1

import (
	"context"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// abortWatch is who is told when the client goes away. Nobody reads from a connection while a response is waited for,
// so that has to be looked for.
type abortWatch struct {
	turns uint32 // of the connection when Run last looked; Run's

	mu   sync.Mutex // protects what follows
	by   exchange.Aborter
	gone bool
}

// LookInterval is how often it is looked for, and so how long a client is waited for at least.
const LookInterval = time.Second

// Run looks at an interval, such as LookInterval, for clients that have gone while a service thinks about their
// request, and breaks those requests off; it returns when ctx is over. It is called once.
func (s *Server) Run(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var waiting []*conn
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.each(func(c *conn) {
				if c.waits() {
					waiting = append(waiting, c)
				}
			})
			for _, c := range waiting {
				s.look(c)
			}
			clear(waiting)
			waiting = waiting[:0]
		}
	}
}

// look looks for one client. What panics is of that exchange.
func (s *Server) look(c *conn) {
	defer func() {
		if v := recover(); v != nil {
			c.defect(v)
			c.sock.Abort()
		}
	}()
	c.look()
}

// waits reports whether the exchange that was under way at the last look still is.
func (c *conn) waits() bool {
	turns := c.turns.Load()
	if turns != c.watch.turns {
		c.watch.turns = turns
		return false
	}
	return !c.idle.Load()
}

// look asks the system whether the client has gone. It does so without the mutex, and believes the answer only where
// the same exchange is under way before and after: the connection was open all the time then.
func (c *conn) look() {
	probe, asked := c.probe()
	if !asked || !probe.PeerGone(c.server.limits.HalfClosed) {
		return
	}
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	if c.watch.by == nil || c.turns.Load() != c.watch.turns {
		return
	}
	c.watch.gone = true
	c.watch.by.Abort()
}

// probe returns what PeerGone needs, where somebody is to be told: as long as that is so, the exchange is not over, and
// the connection is open.
func (c *conn) probe() (p socket.Probe, asked bool) {
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	if c.watch.by == nil || c.watch.gone || c.turns.Load() != c.watch.turns {
		return socket.Probe{}, false
	}
	return c.sock.Probe(), true
}

// Watch implements exchange.Downstream.
func (c *conn) Watch(a exchange.Aborter) {
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	c.watch.by = a
	if a != nil && c.watch.gone {
		a.Abort()
	}
}

// Gone implements exchange.Downstream.
func (c *conn) Gone() bool {
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	return c.req.writeErr != nil || c.watch.gone
}
