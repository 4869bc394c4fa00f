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

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/http2"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/dataplane/internal/upstream/balance"
	"gateway.internal/dataplane/internal/upstream/outlier"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// Endpoint is one address of a service with what lives there: its health, its requests in flight and its connections.
// It stays the same as long as the service has the address, whatever else changes.
type Endpoint struct {
	// State is what balancers see.
	State balance.State
	// Host and Port are as the configuration or discovery has them; Host may be a name, one of whose addresses this is.
	Host string
	Port uint32

	outlier outlier.Host

	key              string // that it is known by in its service
	network, address string
	authorities      authorities
	other            string // is tried where address refuses; "": nothing is
	log              *slog.Logger
	settings         atomic.Pointer[connSettings]
	born             time.Time
	lastProblem      atomic.Int64 // when a TLS problem was last logged, in nanoseconds after born; 0: never
	gone             atomic.Bool  // its service has it no more

	dials *dials

	mu          sync.Mutex // given back by unlock
	idle        idle
	open        int // idle, in use and being opened
	multiplexed multiplexed
	queue       queue
	closing     []*http1Conn // are closed when the mutex has been given back
	closed      bool
}

// dials are the connections that are being opened, to all endpoints of a registry.
type dials struct {
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	// panicked is told of what panics on connections, and as they are opened; nil: such panics go on.
	panicked func(what, route string, v any)
}

func newDials() *dials {
	d := &dials{}
	d.ctx, d.stop = context.WithCancel(context.Background())
	return d
}

// errDefect is what becomes of a connection whose opening has panicked.
var errDefect = &fault.Error{Code: fault.Internal, Reason: "the gateway has failed"}

// defect tells of a panic while a connection was being opened, which ends that alone; where nobody wants to know, it
// goes on.
func (d *dials) defect(v any) error {
	if d.panicked == nil {
		panic(v)
	}
	d.panicked("the opening of a connection", "", v)
	return errDefect
}

// end ends them all.
func (d *dials) end() {
	d.stop()
	d.running.Wait()
}

// connSettings is what an endpoint's service says of its connections.
type connSettings struct {
	service   string // its name
	pool      config.Pool
	transport *transport
	tls       *tls.Config // the transport's, for this endpoint
}

// http1Conn is an HTTP/1 connection in a pool.
type http1Conn struct {
	*http1.ClientConn
	transport *transport // that it was opened with
	ends      time.Time  // when it is too old to be used again
	idleSince time.Time
	lookedAt  time.Time // when it was last seen that the endpoint has not closed it; it may be long before idleSince
	doubtful  bool      // what has come on it was not seen
}

// fits reports whether the connection may be used for another request.
func (c *http1Conn) fits(t *transport, now time.Time) bool {
	return c.transport == t && now.Before(c.ends)
}

// seen returns when it was last seen that the endpoint has neither closed the connection nor sent anything unasked.
func (c *http1Conn) seen(loop *socket.Loop) time.Time {
	switch {
	case c.doubtful:
		return time.Time{}
	case loop == nil || c.Loop() != loop:
		return c.lookedAt
	}
	at := c.Watched()
	if at.IsZero() || at.After(c.lookedAt) {
		return at
	}
	return c.lookedAt
}

func newEndpoint(p resolvedEndpoint, log *slog.Logger, dials *dials) *Endpoint {
	e := &Endpoint{Host: p.entry.GetHost(), Port: p.entry.GetPort(), key: p.key(), network: "tcp", address: p.dialed(), log: log, born: time.Now(), dials: dials}
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

// Gone reports whether the service has this endpoint no more. Who has chosen it before may still use it.
func (e *Endpoint) Gone() bool { return e.gone.Load() }

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

// set takes over what the service says. Connections of another transport are let go of when nothing is under way on
// them.
func (e *Endpoint) set(service string, pool config.Pool, t *transport) {
	next := &connSettings{service: service, pool: pool, transport: t}
	old := e.settings.Load()
	if old != nil && old.transport == t {
		next.tls = old.tls
		e.settings.Store(next)
		return
	}
	next.tls = t.forHost(e.Host)
	e.settings.Store(next)
	if old != nil {
		e.drop()
	}
}

// drop lets go of all connections; those that are in use are closed when they are not.
func (e *Endpoint) drop() {
	e.mu.Lock()
	e.multiplexed.retire()
	for _, c := range e.idle.all() {
		e.discard(c)
	}
	e.idle = nil
	e.serve()
	e.unlock()
}

// unchecked is how long after a response, or after its loop has looked at what has arrived, a connection is used again
// without a look at whether the endpoint has closed it or sent something unasked. The look is a system call, which at
// high load, when connections rest for microseconds, nearly always finds nothing.
const unchecked = time.Millisecond

// Acquire returns an idle connection that the endpoint has neither closed nor spoken on, a part of one that is shared,
// or a new one; where there is none and may be no other, one that becomes free while the exchange waits, see
// Overloaded. fresh asks for one that was not idle. What it waits for ends with the exchange's deadline, and when its
// client goes away.
func (e *Endpoint) Acquire(x *exchange.Exchange, fresh bool) (Conn, error) {
	settings := e.settings.Load()
	shares := settings.transport.http2 != never
	if shares {
		for {
			stream, refused := e.beginAtOnce(settings, x.Request.ContentLength != 0)
			if stream == nil {
				shares = !refused
				break
			}
			if e.live(stream, x) {
				return stream, nil
			}
		}
	}
	kind := anyConn
	if fresh {
		kind = freshConn
	} else if !shares {
		if c := e.takeIdle(settings, x.Now, nil); c != nil {
			return c, nil
		}
	}
	return e.wait(x, settings, kind)
}

// live reports whether a connection that was chosen can be used. Otherwise it is given back, and another one has to be
// chosen. It may be a system call: no mutex is held.
func (e *Endpoint) live(conn Conn, x *exchange.Exchange) bool {
	stream, ok := conn.(*http2.ClientStream)
	if !ok || stream.Live() {
		return true
	}
	e.Release(stream, x.Now, x.Now)
	return false
}

// AcquireIdle does what Acquire does where that is done without waiting: it returns an idle connection that can be
// in a loop, if possible in this one already; nil: there is none.
func (e *Endpoint) AcquireIdle(now time.Time, loop *socket.Loop) LoopConn {
	settings := e.settings.Load()
	if settings.transport.http2 != never || settings.tls != nil {
		return nil
	}
	if c := e.takeIdle(settings, now, loop); c != nil {
		return c
	}
	return nil
}

// takeIdle returns an idle connection that may be used, or nil.
func (e *Endpoint) takeIdle(settings *connSettings, now time.Time, loop *socket.Loop) *http1Conn {
	e.mu.Lock()
	c := e.popIdle(settings, now, loop)
	e.unlock()
	if c != nil && loop == nil {
		c.Leave()
	}
	return c
}

// popIdle is takeIdle where the mutex is held and the connection stays in its loop.
func (e *Endpoint) popIdle(settings *connSettings, now time.Time, loop *socket.Loop) *http1Conn {
	for {
		c := e.idle.pop(loop)
		if c == nil || c.fits(settings.transport, now) && (now.Sub(c.seen(loop)) < unchecked || c.Quiet()) {
			return c
		}
		e.discard(c)
	}
}

// discard lets go of a connection over HTTP/1, which unlock closes. The mutex is held.
func (e *Endpoint) discard(c *http1Conn) {
	e.open--
	e.closing = append(e.closing, c)
}

// unlock gives the mutex back and closes what was discarded meanwhile.
func (e *Endpoint) unlock() {
	closing := e.closing
	e.closing = nil
	e.mu.Unlock()
	for _, c := range closing {
		c.Close()
	}
}

func newHTTP1Conn(nc net.Conn, settings *connSettings) *http1Conn {
	return &http1Conn{
		ClientConn: http1.NewClientConn(nc, settings.transport.strict), transport: settings.transport,
		ends: endOf(time.Now(), settings.pool.MaxAge),
	}
}

// openFor opens a connection over HTTP/1 for a request that waits, or, where another one has become free for it
// meanwhile, for the next one.
func (e *Endpoint) openFor(settings *connSettings, p *pending) {
	with := settings
	if p.kind == tunnelConn {
		with = settings.forTunnel()
	}
	nc, err := e.dial(with)
	e.mu.Lock()
	defer e.unlock()
	waits := !p.over
	e.queue.opened(p)
	switch {
	case err != nil:
		e.open--
		if !p.over {
			p.settle(nil, err)
		}
	case p.kind == tunnelConn && p.over:
		e.discard(newHTTP1Conn(nc, settings))
	case p.kind == tunnelConn:
		p.settle(http1.NewTunnelConn(nc), nil)
	case settings.transport.http2 == whenAsked && choseHTTP2(nc): // it did not before
		e.open--
		e.addMultiplexed(nc, settings)
	default:
		e.keepNew(newHTTP1Conn(nc, settings), p)
	}
	if waits && p.over {
		e.queue.remove(p)
	}
	e.serve()
}

// keepNew gives a new connection to the request that it was opened for, which may be nil, or else to any other. The
// mutex is held.
func (e *Endpoint) keepNew(c *http1Conn, p *pending) {
	if p != nil && !p.over {
		p.settle(c, nil)
		return
	}
	c.idleSince = time.Now()
	c.lookedAt = c.idleSince
	c.Recycle() // from now on the endpoint may close it whenever it likes
	e.keep(c)
}

// keep makes a connection over HTTP/1 wait for its next request, if it may. The mutex is held.
func (e *Endpoint) keep(c *http1Conn) {
	settings := e.settings.Load()
	full := e.idle.len() >= settings.pool.MaxIdle && len(e.queue.all) == 0
	if e.closed || full || !c.fits(settings.transport, c.idleSince) {
		e.discard(c)
		return
	}
	e.idle.push(c)
}

// dial opens a connection, with TLS where the service wants it, within the connect timeout. Those who wait for it have
// limits of their own.
func (e *Endpoint) dial(settings *connSettings) (nc net.Conn, err error) {
	ctx, cancel := context.WithTimeout(e.dials.ctx, settings.pool.ConnectTimeout)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = e.dials.defect(v)
			if nc != nil {
				_ = nc.Close()
				nc = nil
			}
		}
	}()
	nc, err = dialEither(ctx, e.network, e.dialed())
	if err != nil || settings.tls == nil {
		return nc, err
	}
	conn, err := secure(ctx, nc, settings.tls, settings.transport.http2)
	if err != nil {
		e.logTLS(settings, err)
		return nil, err
	}
	return conn, nil
}

// problemInterval is how often a problem of one endpoint is logged: requests may meet it thousands of times in a
// second.
const problemInterval = 30 * time.Second

func (e *Endpoint) logTLS(settings *connSettings, err error) {
	var failed *errTLS
	if !errors.As(err, &failed) {
		return
	}
	now, last := int64(time.Since(e.born)), e.lastProblem.Load()
	if last != 0 && now-last < int64(problemInterval) || !e.lastProblem.CompareAndSwap(last, max(now, 1)) {
		return
	}
	e.log.Error("TLS with an endpoint fails", "service", settings.service, "endpoint", e.address,
		"error", failed.cause.Error())
}

// Release takes a connection back: it is kept when it may be used again, and closed otherwise. It is idle from now on;
// lookedAt is when the endpoint was last known to keep it open: when it answered.
func (e *Endpoint) Release(conn Conn, lookedAt, now time.Time) {
	if stream, ok := conn.(*http2.ClientStream); ok {
		stream.Release(now)
		e.freed()
		return
	}
	if tunnel, ok := conn.(http1.TunnelConn); ok {
		tunnel.Close()
		e.lost()
		return
	}
	c := conn.(*http1Conn)
	if !c.Reusable() {
		c.Close()
		e.lost()
		return
	}
	c.idleSince, c.lookedAt, c.doubtful = now, lookedAt, c.Doubtful()
	c.Recycle()
	e.mu.Lock()
	e.keep(c)
	e.serve()
	e.unlock()
}

// freed is called when a connection that speaks HTTP/2 may take more streams than before.
func (e *Endpoint) freed() {
	if e.queue.len.Load() == 0 {
		return
	}
	e.mu.Lock()
	e.serve()
	e.unlock()
}

func (e *Endpoint) lost() {
	e.mu.Lock()
	e.open--
	e.serve()
	e.unlock()
}

// sweep closes connections that have been idle for too long or are too old, those that the endpoint has closed, and
// those of an earlier transport.
func (e *Endpoint) sweep(now time.Time) {
	settings := e.settings.Load()
	oldest := now.Add(-settings.pool.IdleTimeout)
	e.mu.Lock()
	e.multiplexed.sweep(now, settings.transport, settings.pool.IdleTimeout)
	drop := e.idle.drop(func(c *http1Conn) bool {
		return c.idleSince.Before(oldest) || !c.fits(settings.transport, now) || !c.Quiet()
	})
	for _, c := range drop {
		e.discard(c)
	}
	e.serve()
	e.unlock()
}

// close closes what is idle; what is in use is closed when it is released.
func (e *Endpoint) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.drop()
}
