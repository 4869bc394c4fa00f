package http1

import (
	"context"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/exchange"
)

// watched is who is told when the client goes away. Nobody reads from a connection while a response is waited for, so
// that has to be looked for.
type watched struct {
	mu   sync.Mutex
	by   exchange.Aborter
	gone bool
}

// lookInterval is how often it is looked for, and so how long a client is waited for at least.
const lookInterval = time.Second

// Run looks once a second for clients that have gone while a service thinks about their request, and breaks those
// requests off; it returns when ctx is over.
func (s *Server) Run(ctx context.Context) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.each((*conn).look)
		}
	}
}

// look costs a system call only where the same exchange was under way the last time.
func (c *conn) look() {
	turn := c.turns.Load()
	if turn != c.looked {
		c.looked = turn
		return
	}
	if c.idle.Load() {
		return
	}
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	// As long as somebody is to be told, the exchange is not over, and the connection is open.
	if c.watch.by == nil || c.watch.gone || !c.sock.PeerGone(c.server.limits.HalfClosed) {
		return
	}
	c.watch.gone = true
	c.watch.by.Abort()
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
	return c.writeErr != nil || c.watch.gone
}
