package upstream

import (
	"net"
	"slices"
	"time"

	"gateway.internal/dataplane/internal/http2"
	"gateway.internal/shared/config"
)

// multiplexed is an endpoint's connections that many exchanges share at once: those that speak HTTP/2. The endpoint's
// mutex protects it.
type multiplexed struct {
	conns []multiplexedConn
	// opening tells that one more is being opened. Exchanges that come meanwhile wait for it if they have to, instead
	// of opening a connection each.
	opening bool
	// failed tells that one more could not be opened a moment ago.
	failed bool
	// refused is set while the endpoint, given the choice by ALPN, has chosen HTTP/1.1.
	refused bool
}

type multiplexedConn struct {
	*http2.ClientConn
	transport *transport // that it was opened with
	ends      time.Time  // when it is too old for more streams
}

// begin returns a stream on the connection that has the least load, less than limit; nil: there is none. body tells
// that the stream is to send a body. The endpoint's mutex is held.
func (s *multiplexed) begin(t *transport, limit int, body bool) Conn {
	best, least := -1, limit
	for i, c := range s.conns {
		if c.transport != t {
			continue
		}
		if len(s.conns) == 1 {
			best = i
		} else if n, ok := c.Load(body); ok && n < least {
			best, least = i, n
		}
	}
	if best >= 0 {
		if stream := s.conns[best].Begin(limit, body); stream != nil {
			return stream
		}
	}
	return nil
}

// anyLoad is more than the load of any connection.
const anyLoad = 2 * http2.MaxLoad

// beginAtOnce returns a stream on a connection that carries few, unless others wait for one. refused tells that the
// endpoint, given the choice, wants HTTP/1.1.
func (e *Endpoint) beginAtOnce(settings *connSettings, body bool) (stream Conn, refused bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.multiplexed.refused:
		return nil, true
	case len(e.queue.all) > 0:
		return nil, false
	}
	return e.multiplexed.begin(settings.transport, config.SharedRequests, body), false
}

// begin returns a stream, on a connection that carries many if need be, and has another one opened where those that are
// open do: nil: no connection takes any more. While another one is being opened, what has a body to send waits for it
// rather than for the window of a connection where that is used up. The mutex is held.
func (e *Endpoint) begin(settings *connSettings, body bool) Conn {
	s := &e.multiplexed
	if stream := s.begin(settings.transport, config.SharedRequests, body); stream != nil {
		return stream
	}
	s.prune()
	if !s.opening && !s.failed && s.count(settings.transport) < settings.pool.SharedConnections() {
		s.opening = true
		e.dials.running.Go(func() { e.openMultiplexed(settings) })
	}
	if s.opening {
		return s.begin(settings.transport, http2.MaxLoad, body)
	}
	return s.begin(settings.transport, anyLoad, body)
}

// openMultiplexed opens a connection for those who wait.
func (e *Endpoint) openMultiplexed(settings *connSettings) {
	nc, err := e.dial(settings)
	e.mu.Lock()
	defer e.unlock()
	e.multiplexed.opening = false
	switch {
	case err != nil:
	case settings.transport.http2 == whenAsked && !choseHTTP2(nc):
		e.multiplexed.refused = true
		e.open++
		e.keepNew(newHTTP1Conn(nc, settings), nil)
	case !e.addMultiplexed(nc, settings):
		err = ErrNotProcessed
	}
	if err != nil {
		if e.multiplexed.prune(); e.multiplexed.count(settings.transport) == 0 {
			e.queue.fail(err)
		} else {
			e.multiplexed.failed = true // those that are open have to do for a moment
		}
	}
	e.serve()
	if e.closed {
		e.multiplexed.retire()
	}
}

// addMultiplexed makes a new connection one for all, and reports false where it is over already. The mutex is held.
func (e *Endpoint) addMultiplexed(nc net.Conn, settings *connSettings) bool {
	scheme := "http"
	if settings.tls != nil {
		scheme = "https"
	}
	client := http2.NewClientConn(nc, scheme, settings.transport.strict, e.freed, e.dials.panicked)
	c := multiplexedConn{client, settings.transport, endOf(time.Now(), settings.pool.MaxAge)}
	if !c.Usable() {
		return false
	}
	e.multiplexed.refused = false
	e.multiplexed.conns = append(e.multiplexed.conns, c)
	return true
}

// prune lets go of connections that carry no more streams, so that they do not count against the limit until the next
// sweep. The endpoint's mutex is held.
func (s *multiplexed) prune() {
	s.conns = slices.DeleteFunc(s.conns, func(c multiplexedConn) bool { return !c.Usable() })
}

// count returns how many connections a transport has.
func (s *multiplexed) count(t *transport) int {
	n := 0
	for _, c := range s.conns {
		if c.transport == t {
			n++
		}
	}
	return n
}

// slotsToCome returns for how many requests connections are being opened, or will be after the one that is. The
// endpoint's mutex is held.
func (s *multiplexed) slotsToCome(settings *connSettings) int {
	if !s.opening {
		return 0
	}
	return max(settings.pool.SharedConnections()-s.count(settings.transport), 1) * config.SharedRequests
}

// sweep lets go of connections that can't be used any more. The endpoint's mutex is held.
func (s *multiplexed) sweep(now time.Time, t *transport, idle time.Duration) {
	s.failed = false
	kept := s.conns[:0]
	for _, c := range s.conns {
		if c.transport != t || !now.Before(c.ends) {
			c.Retire()
		}
		if c.Check(now, idle) {
			kept = append(kept, c)
		}
	}
	clear(s.conns[len(kept):])
	s.conns = kept
}

// retire ends all connections when nothing is under way on them. The endpoint's mutex is held.
func (s *multiplexed) retire() {
	for _, c := range s.conns {
		c.Retire()
	}
	s.conns, s.refused = nil, false
}
