package upstream

import (
	"context"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/upstream/balance"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// Endpoint is one address of a service with what lives there: its health, its requests in flight and its connections. It
// stays the same as long as the service has the address, whatever else changes.
type Endpoint struct {
	// State is what balancers see.
	State balance.State
	// Host and Port are the address.
	Host string
	Port uint32

	address string
	pool    atomic.Pointer[config.Pool]

	mu     sync.Mutex
	idle   []*http1.ClientConn // the one used last is at the end
	open   int                 // idle and in use
	closed bool
}

func newEndpoint(host string, port uint32, pool config.Pool) *Endpoint {
	e := &Endpoint{Host: host, Port: port, address: net.JoinHostPort(host, strconv.Itoa(int(port)))}
	e.pool.Store(&pool)
	return e
}

// Address returns "host:port".
func (e *Endpoint) Address() string { return e.address }

var errTooManyConnections = &fault.Error{Code: fault.UpstreamOverloaded, Reason: "all connections that the service allows are in use"}

// unchecked is how long after a response a connection is used again without a look at whether the endpoint has closed it or
// sent something unasked. The look is a system call, which at high load, when connections rest for microseconds, nearly always
// finds nothing.
const unchecked = time.Millisecond

// Acquire returns an idle connection that the endpoint has neither closed nor spoken on, or a new one. fresh asks for a new one.
func (e *Endpoint) Acquire(now, deadline time.Time, fresh bool) (Conn, error) {
	pool := e.pool.Load()
	e.mu.Lock()
	for !fresh && len(e.idle) > 0 {
		c := e.idle[len(e.idle)-1]
		e.idle = e.idle[:len(e.idle)-1]
		e.mu.Unlock()
		if now.Sub(c.IdleSince) < unchecked || c.Quiet() {
			return c, nil
		}
		c.Close()
		e.mu.Lock()
		e.open--
	}
	if pool.MaxConnections > 0 && e.open >= pool.MaxConnections {
		e.mu.Unlock()
		return nil, errTooManyConnections
	}
	e.open++
	e.mu.Unlock()
	timeout := pool.ConnectTimeout
	if !deadline.IsZero() {
		timeout = min(timeout, max(time.Until(deadline), time.Nanosecond))
	}
	dialer := net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	nc, err := dialer.DialContext(context.Background(), "tcp", e.address)
	if err != nil {
		e.lost()
		return nil, err
	}
	return http1.NewClientConn(nc), nil
}

// Release takes a connection back: it is kept when it may be used again, and closed otherwise.
func (e *Endpoint) Release(conn Conn, now time.Time) {
	c := conn.(*http1.ClientConn)
	if !c.Reusable() {
		c.Close()
		e.lost()
		return
	}
	c.Recycle()
	c.IdleSince = now
	pool := e.pool.Load()
	e.mu.Lock()
	if e.closed || len(e.idle) >= pool.MaxIdle {
		e.open--
		e.mu.Unlock()
		c.Close()
		return
	}
	e.idle = append(e.idle, c)
	e.mu.Unlock()
}

func (e *Endpoint) lost() {
	e.mu.Lock()
	e.open--
	e.mu.Unlock()
}

// sweep closes connections that have been idle for too long, and those that the endpoint has closed.
func (e *Endpoint) sweep(now time.Time) {
	oldest := now.Add(-e.pool.Load().IdleTimeout)
	e.mu.Lock()
	var drop []*http1.ClientConn
	kept := e.idle[:0]
	for _, c := range e.idle {
		if c.IdleSince.Before(oldest) || !c.Quiet() {
			drop = append(drop, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(e.idle[len(kept):])
	e.idle = kept
	e.open -= len(drop)
	e.mu.Unlock()
	for _, c := range drop {
		c.Close()
	}
}

// close closes what is idle; what is in use is closed when it is released.
func (e *Endpoint) close() {
	e.mu.Lock()
	idle := e.idle
	e.idle, e.closed = nil, true
	e.open -= len(idle)
	e.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}
