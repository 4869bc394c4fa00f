package upstream

import (
	"net"
	"slices"
	"time"

	"gateway.internal/dataplane/internal/http2"
	"gateway.internal/shared/config"
)

// sharing is an endpoint's connections that many exchanges share at once: those that speak HTTP/2. The endpoint's mutex protects it.
type sharing struct {
	conns []sharedConn
	// opening is the attempt to open one more, nil while there is none. Exchanges that come meanwhile wait for it if they have to,
	// instead of opening a connection each.
	opening *opening
	// refused is set while the endpoint, given the choice by ALPN, has chosen HTTP/1.1.
	refused bool
}

type sharedConn struct {
	*http2.Client
	transport *transport // that it was opened with
	ends      time.Time  // when it is too old for more calls
}

type opening struct {
	done chan struct{}
	err  error // valid when done is closed
}

// begin returns a call on a connection that carries less than limit calls; nil: there is none. The endpoint's mutex is held.
func (s *sharing) begin(t *transport, limit int) Conn {
	for _, c := range s.conns {
		if c.transport != t {
			continue
		}
		if call := c.Begin(limit); call != nil {
			return call
		}
	}
	return nil
}

// acquireShared returns a call on a connection that speaks HTTP/2, which it opens where those that are open carry enough. http1 tells that the
// endpoint, given the choice, wants HTTP/1.1; conn may then be a connection that has just been opened.
func (e *Endpoint) acquireShared(how *how, deadline time.Time) (conn Conn, http1 bool, err error) {
	for {
		e.mu.Lock()
		if e.sharing.refused {
			e.mu.Unlock()
			return nil, true, nil
		}
		if call := e.sharing.begin(how.transport, config.SharedRequests); call != nil {
			e.mu.Unlock()
			return call, false, nil
		}
		e.sharing.prune()
		under := e.sharing.opening
		if under != nil || e.sharing.count(how.transport) >= how.pool.SharedConnections() {
			call := e.sharing.begin(how.transport, maxCalls)
			e.mu.Unlock()
			switch {
			case call != nil:
				return call, false, nil
			case under == nil:
				return nil, false, ErrTooManyConnections
			}
			<-under.done // it ends with the connect timeout
			if under.err != nil {
				return nil, false, under.err
			}
			continue
		}
		under = &opening{done: make(chan struct{})}
		e.sharing.opening = under
		e.mu.Unlock()
		return e.openShared(how, under, deadline)
	}
}

// maxCalls is more calls than any connection carries.
const maxCalls = 1 << 30

// openShared opens a connection for an exchange and those that wait for it.
func (e *Endpoint) openShared(how *how, under *opening, deadline time.Time) (Conn, bool, error) {
	nc, err := e.dial(how, deadline)
	e.mu.Lock()
	defer e.mu.Unlock()
	defer close(under.done)
	e.sharing.opening = nil
	if err != nil {
		under.err = err
		return nil, false, err
	}
	if how.transport.http2 == whenAsked && !choseHTTP2(nc) {
		e.sharing.refused = true
		e.open++
		return newConn1(nc, how), true, nil
	}
	conn, err := e.share(nc, how)
	under.err = err
	return conn, false, err
}

// share makes a new connection one for all and returns the first call on it, or ErrNotProcessed where the connection is over already. The mutex is held.
func (e *Endpoint) share(nc net.Conn, how *how) (Conn, error) {
	scheme := "http"
	if how.tls != nil {
		scheme = "https"
	}
	c := sharedConn{http2.NewClient(nc, scheme, how.transport.strict), how.transport, endOf(time.Now(), how.pool.MaxAge)}
	call := c.Begin(maxCalls)
	if call == nil {
		return nil, ErrNotProcessed
	}
	if e.closed {
		c.Retire()
		return call, nil
	}
	e.sharing.refused = false
	e.sharing.conns = append(e.sharing.conns, c)
	return call, nil
}

// prune lets go of connections that carry no more calls, so that they do not count against the limit until the next sweep. The endpoint's mutex is held.
func (s *sharing) prune() {
	s.conns = slices.DeleteFunc(s.conns, func(c sharedConn) bool { return !c.Usable() })
}

// count returns how many connections a transport has.
func (s *sharing) count(t *transport) int {
	n := 0
	for _, c := range s.conns {
		if c.transport == t {
			n++
		}
	}
	return n
}

// sweep lets go of connections that can't be used any more. The endpoint's mutex is held.
func (s *sharing) sweep(now time.Time, t *transport, idle time.Duration) {
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
func (s *sharing) retire() {
	for _, c := range s.conns {
		c.Retire()
	}
	s.conns, s.refused = nil, false
}
