package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/http2"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/dataplane/internal/upstream/balance"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// Endpoint is one address of a service with what lives there: its health, its requests in flight and its connections. It
// stays the same as long as the service has the address, whatever else changes.
type Endpoint struct {
	// State is what balancers see.
	State balance.State
	// Host and Port are as the configuration or discovery has them; Host may be a name, one of whose addresses this is.
	Host string
	Port uint32

	key              string // that it is known by in its service
	network, address string
	authorities      authorities
	other            string // is tried where address refuses; "": nothing is
	log              *slog.Logger
	how              atomic.Pointer[how]
	born             time.Time
	lastProblem      atomic.Int64 // when a TLS problem was last logged, in nanoseconds after born; 0: never

	mu      sync.Mutex
	idle    idle
	open    int // idle and in use
	sharing sharing
	closed  bool
}

// how is what an endpoint's service says of its connections.
type how struct {
	service   string // its name
	pool      config.Pool
	transport *transport
	tls       *tls.Config // the transport's, for this endpoint
}

// conn1 is an HTTP/1 connection in a pool.
type conn1 struct {
	*http1.ClientConn
	transport *transport // that it was opened with
	ends      time.Time  // when it is too old to be used again
	idleSince time.Time
	doubtful  bool // what has come on it was not seen
}

// fits reports whether the connection may be used for another request.
func (c *conn1) fits(t *transport, now time.Time) bool { return c.transport == t && now.Before(c.ends) }

// seen returns when it was last seen that the endpoint has neither closed the connection nor sent anything unasked.
func (c *conn1) seen(loop *socket.Loop) time.Time {
	switch {
	case c.doubtful:
		return time.Time{}
	case loop == nil || c.Loop() != loop:
		return c.idleSince
	}
	at := c.Watched()
	if at.IsZero() || at.After(c.idleSince) {
		return at
	}
	return c.idleSince
}

func newEndpoint(p place, log *slog.Logger) *Endpoint {
	e := &Endpoint{Host: p.entry.GetHost(), Port: p.entry.GetPort(), key: p.key(), network: "tcp", address: p.dialed(), log: log, born: time.Now()}
	if _, isUnix := config.UnixPath(e.Host); isUnix {
		e.network = "unix"
	}
	e.authorities = authoritiesOf(e)
	if p.other.IsValid() {
		e.other = netip.AddrPortFrom(p.other, uint16(e.Port)).String()
	}
	return e
}

// Address returns "address:port" or "unix:/path". For a name that is resolved it has the address, not the name.
func (e *Endpoint) Address() string { return e.address }

// dialed returns what connections are opened to, in turn until one does not refuse.
func (e *Endpoint) dialed() [2]string {
	return [2]string{strings.TrimPrefix(e.address, "unix:"), e.other}
}

// dialEither opens a connection to the first of two addresses, or where that refuses to the second, which may be "".
func dialEither(ctx context.Context, network string, to [2]string) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: 30 * time.Second}
	nc, err := dialer.DialContext(ctx, network, to[0])
	if err != nil && to[1] != "" && errors.Is(err, syscall.ECONNREFUSED) {
		if other, otherErr := dialer.DialContext(ctx, network, to[1]); otherErr == nil {
			return other, nil
		}
	}
	return nc, err
}

// set takes over what the service says. Connections of another transport are let go of when nothing is under way on them.
func (e *Endpoint) set(service string, pool config.Pool, t *transport) {
	next := &how{service: service, pool: pool, transport: t}
	old := e.how.Load()
	if old != nil && old.transport == t {
		next.tls = old.tls
		e.how.Store(next)
		return
	}
	next.tls = t.forHost(e.Host)
	e.how.Store(next)
	if old != nil {
		e.drop()
	}
}

// drop lets go of all connections; those that are in use are closed when they are not.
func (e *Endpoint) drop() {
	e.mu.Lock()
	e.sharing.retire()
	idle := e.idle.all()
	e.idle = nil
	e.open -= len(idle)
	e.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}

// ErrTooManyConnections is Acquire's where the service's connection_pool allows no more.
var ErrTooManyConnections error = &fault.Error{Code: fault.UpstreamOverloaded, Reason: "all connections that the service allows are in use"}

// unchecked is how long after a response, or after its loop has looked at what has arrived, a connection is used again without a look at whether the
// endpoint has closed it or sent something unasked. The look is a system call, which at high load, when connections rest for microseconds, nearly always
// finds nothing.
const unchecked = time.Millisecond

// Acquire returns an idle connection that the endpoint has neither closed nor spoken on, a part of one that is shared, or a new one. fresh asks
// for one that was not idle.
func (e *Endpoint) Acquire(now, deadline time.Time, fresh bool) (Conn, error) {
	how := e.how.Load()
	if how.transport.http2 != never {
		conn, http1, err := e.acquireShared(how, deadline)
		if !http1 || conn != nil {
			return conn, err
		}
	}
	if !fresh {
		if c := e.takeIdle(how, now, nil); c != nil {
			return c, nil
		}
	}
	e.mu.Lock()
	if how.pool.MaxConnections > 0 && e.open >= how.pool.MaxConnections {
		e.mu.Unlock()
		return nil, ErrTooManyConnections
	}
	e.open++
	e.mu.Unlock()
	nc, err := e.dial(how, deadline)
	if err != nil {
		e.lost()
		return nil, err
	}
	if how.transport.http2 == whenAsked && choseHTTP2(nc) { // it did not before
		e.mu.Lock()
		defer e.mu.Unlock()
		e.open--
		return e.share(nc, how)
	}
	return newConn1(nc, how), nil
}

// AcquireIdle does what Acquire does where that is done without waiting: it returns an idle connection over HTTP/1, if possible one that the loop looks
// after already; nil: there is none.
func (e *Endpoint) AcquireIdle(now time.Time, loop *socket.Loop) (Conn, *http1.ClientConn) {
	how := e.how.Load()
	if how.transport.http2 != never || how.tls != nil {
		return nil, nil
	}
	if c := e.takeIdle(how, now, loop); c != nil {
		return c, c.ClientConn
	}
	return nil, nil
}

// takeIdle returns an idle connection that may be used, or nil.
func (e *Endpoint) takeIdle(how *how, now time.Time, loop *socket.Loop) *conn1 {
	for {
		e.mu.Lock()
		c := e.idle.pop(loop)
		fits := c != nil && c.fits(how.transport, now)
		if c != nil && !fits {
			e.open--
		}
		e.mu.Unlock()
		switch {
		case c == nil:
			return nil
		case !fits:
			c.Close()
		case now.Sub(c.seen(loop)) < unchecked || c.Quiet():
			if loop == nil {
				c.Leave()
			}
			return c
		default:
			c.Close()
			e.lost()
		}
	}
}

func newConn1(nc net.Conn, how *how) *conn1 {
	return &conn1{ClientConn: http1.NewClientConn(nc, how.transport.strict), transport: how.transport, ends: endOf(time.Now(), how.pool.MaxAge)}
}

// dial opens a connection, with TLS where the service wants it, within the connect timeout.
func (e *Endpoint) dial(how *how, deadline time.Time) (net.Conn, error) {
	end := time.Now().Add(how.pool.ConnectTimeout)
	if !deadline.IsZero() && deadline.Before(end) {
		end = deadline
	}
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	nc, err := dialEither(ctx, e.network, e.dialed())
	if err != nil || how.tls == nil {
		return nc, err
	}
	conn, err := secure(ctx, nc, how.tls, how.transport.http2)
	if err != nil {
		e.logTLS(how, err)
		return nil, err
	}
	return conn, nil
}

// problemInterval is how often a problem of one endpoint is logged: requests may meet it thousands of times in a second.
const problemInterval = 30 * time.Second

func (e *Endpoint) logTLS(how *how, err error) {
	var failed *errTLS
	if !errors.As(err, &failed) {
		return
	}
	now, last := int64(time.Since(e.born)), e.lastProblem.Load()
	if last != 0 && now-last < int64(problemInterval) || !e.lastProblem.CompareAndSwap(last, max(now, 1)) {
		return
	}
	e.log.Error("TLS with an endpoint fails", "service", how.service, "endpoint", e.address, "error", failed.cause.Error())
}

// Release takes a connection back: it is kept when it may be used again, and closed otherwise.
func (e *Endpoint) Release(conn Conn, now time.Time) {
	if call, ok := conn.(*http2.Call); ok {
		call.Release(now)
		return
	}
	if opened, ok := conn.(http1.Opened); ok {
		opened.Close()
		e.lost()
		return
	}
	c := conn.(*conn1)
	if !c.Reusable() {
		c.Close()
		e.lost()
		return
	}
	c.idleSince, c.doubtful = now, c.Doubtful()
	c.Recycle()
	how := e.how.Load()
	e.mu.Lock()
	if e.closed || !c.fits(how.transport, now) || e.idle.len() >= how.pool.MaxIdle {
		e.open--
		e.mu.Unlock()
		c.Close()
		return
	}
	e.idle.push(c)
	e.mu.Unlock()
}

func (e *Endpoint) lost() {
	e.mu.Lock()
	e.open--
	e.mu.Unlock()
}

// sweep closes connections that have been idle for too long or are too old, those that the endpoint has closed, and those of an earlier transport.
func (e *Endpoint) sweep(now time.Time) {
	how := e.how.Load()
	oldest := now.Add(-how.pool.IdleTimeout)
	e.mu.Lock()
	e.sharing.sweep(now, how.transport, how.pool.IdleTimeout)
	drop := e.idle.drop(func(c *conn1) bool {
		return c.idleSince.Before(oldest) || !c.fits(how.transport, now) || !c.Quiet()
	})
	e.open -= len(drop)
	e.mu.Unlock()
	for _, c := range drop {
		c.Close()
	}
}

// close closes what is idle; what is in use is closed when it is released.
func (e *Endpoint) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.drop()
}
