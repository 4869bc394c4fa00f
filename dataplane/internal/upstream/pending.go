package upstream

import (
	"os"
	"slices"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// connKind is the kind of connection that a request asks for.
type connKind uint8

const (
	anyConn    connKind = iota
	freshConn           // one that was not idle
	tunnelConn          // one for a tunnel, on which no HTTP is spoken
)

// errOverloaded and errNoneFree are what Acquire returns where the service's connection_pool allows no more, see
// Overloaded.
var (
	errOverloaded error = &fault.Error{Code: fault.UpstreamOverloaded, Reason: "all connections that the service allows are in use, and no more requests may wait for one"}
	errNoneFree   error = &fault.Error{Code: fault.UpstreamOverloaded, Reason: "all connections that the service allows are in use, and none became free in time"}
)

// Overloaded reports whether an error of Acquire's is that the service's connection_pool allows no more.
func Overloaded(err error) bool { return err == errOverloaded || err == errNoneFree }

// pending is a request that waits for a connection: for one to be opened, or, where there may be no more, for one of
// those that are there.
type pending struct {
	kind connKind
	body bool // it has a body
	// done has something in it when the wait is over.
	done chan struct{}
	gone atomic.Bool // the client has gone away

	// The endpoint's mutex protects these.
	opening bool // a connection is being opened that is this request's, unless another one becomes free before
	over    bool // conn and err are valid
	conn    Conn
	err     error
}

// Abort implements exchange.Aborter: nobody waits for the response any more.
func (p *pending) Abort() {
	p.gone.Store(true)
	p.wake()
}

func (p *pending) wake() {
	select {
	case p.done <- struct{}{}:
	default:
	}
}

// settle ends the wait. The endpoint's mutex is held.
func (p *pending) settle(conn Conn, err error) {
	p.over, p.conn, p.err = true, conn, err
	p.wake()
}

// queue are the requests that wait for an endpoint's connections, in the order in which they came. The endpoint's mutex
// protects it.
type queue struct {
	all []*pending
	// opening is for how many of them a connection is being opened.
	opening int
	// len is how many there are. It is changed before anything is looked for that is free, and read by whoever has given
	// something back after that: what is given back is seen by one of the two.
	len atomic.Int32
	// refused counts the requests that were not let in.
	refused atomic.Uint64
}

func (q *queue) push(p *pending) {
	q.all = append(q.all, p)
	q.len.Add(1)
}

// remove takes a request out whose wait is over.
func (q *queue) remove(p *pending) {
	if i := slices.Index(q.all, p); i >= 0 {
		q.all = slices.Delete(q.all, i, i+1)
		q.left(p)
	}
}

// removeOver takes all out whose wait is over.
func (q *queue) removeOver() {
	q.all = slices.DeleteFunc(q.all, func(p *pending) bool {
		if p.over {
			q.left(p)
		}
		return p.over
	})
}

func (q *queue) left(p *pending) {
	if p.opening {
		q.opening--
	}
	q.len.Add(-1)
}

// opens says that a connection is being opened for a request that waits.
func (q *queue) opens(p *pending) {
	p.opening = true
	q.opening++
}

// opened says that it is no more. Who has got another one meanwhile waits no more.
func (q *queue) opened(p *pending) {
	if p.opening = false; !p.over {
		q.opening--
	}
}

// waiting returns how many wait for what others have.
func (q *queue) waiting() int { return len(q.all) - q.opening }

// wait waits until the request has a connection, or not for as long as it may: until the exchange's deadline, until its
// client has gone away, or for the time in which a connection has to be opened.
func (e *Endpoint) wait(x *exchange.Exchange, settings *connSettings, kind connKind) (Conn, error) {
	p := &pending{kind: kind, body: x.Request.ContentLength != 0, done: make(chan struct{}, 1)}
	if err := e.enqueue(settings, p); err != nil {
		return nil, err
	}
	x.Watch(p)
	defer x.Unwatch(p)
	timer := time.NewTimer(e.waitTimeout(x, settings))
	defer timer.Stop()
	for {
		late := false
		select {
		case <-p.done:
		case <-timer.C:
			late = true
		}
		if conn, err, over := e.outcome(x, p, late); over {
			if c, ok := conn.(*http1Conn); ok {
				c.Leave()
			}
			x.Tick()
			if err == nil && !e.live(conn, x) {
				return e.wait(x, settings, kind)
			}
			return conn, err
		}
		if late {
			timer.Reset(e.waitTimeout(x, settings))
		}
	}
}

// waitTimeout is how long a request waits before it is looked what for.
func (e *Endpoint) waitTimeout(x *exchange.Exchange, settings *connSettings) time.Duration {
	d := settings.pool.ConnectTimeout
	if until := x.Until(); !until.IsZero() {
		d = min(d, max(time.Until(until), time.Nanosecond))
	}
	return d
}

// enqueue lets a request wait, if no more than the service allows do, and looks whether it has to.
func (e *Endpoint) enqueue(settings *connSettings, p *pending) error {
	e.mu.Lock()
	defer e.unlock()
	before := e.queue.waiting()
	e.queue.push(p)
	if before > 0 && before <= settings.pool.MaxPending {
		e.serve()
	} else if e.serveOne(settings, p, time.Now()); p.over { // those before it were served when there last was something
		e.queue.remove(p)
	}
	if !p.over && !p.opening && e.queue.waiting() > settings.pool.MaxPending+e.multiplexed.slotsToCome(settings) {
		e.queue.remove(p)
		e.queue.refused.Add(1)
		return errOverloaded
	}
	return nil
}

// outcome reports whether a wait is over, and with what. late tells that it has lasted for as long as it may.
func (e *Endpoint) outcome(x *exchange.Exchange, p *pending, late bool) (conn Conn, err error, over bool) {
	e.mu.Lock()
	defer e.unlock()
	until := x.Until()
	switch {
	case p.over:
		return p.conn, p.err, true
	case p.gone.Load():
		err = os.ErrDeadlineExceeded
	case !until.IsZero() && !time.Now().Before(until):
		err = os.ErrDeadlineExceeded
	case late && !p.opening && !e.multiplexed.opening: // what is being opened has a limit of its own
		err = errNoneFree
	default:
		return nil, nil, false //nolint:nilnil // it goes on waiting
	}
	e.queue.remove(p)
	p.settle(nil, err)
	return nil, err, true
}

// serve gives those who wait what there is for them, in their order, and has connections opened for the others, as many
// as there may be. It is called whenever there may be more than before. The mutex is held.
func (e *Endpoint) serve() {
	if len(e.queue.all) == 0 || e.queue.waiting() == 0 && e.idle.len() == 0 {
		return // each has a connection that is being opened, and there may be thousands of them
	}
	settings, now := e.settings.Load(), time.Now()
	full, used := false, false // the connections that speak HTTP/2 take no more; no more with a body
	for _, p := range e.queue.all {
		if p.over || !e.needsHTTP1(settings, p) && (full || used && p.body) {
			continue
		}
		if !e.serveOne(settings, p, now) {
			full, used = !p.body, true
		}
	}
	e.queue.removeOver()
}

// needsHTTP1 reports whether a request is for a connection of its own.
func (e *Endpoint) needsHTTP1(settings *connSettings, p *pending) bool {
	return p.kind == tunnelConn || settings.transport.http2 == never || e.multiplexed.refused
}

// serveOne is serve for one request. It reports false where no connection that speaks HTTP/2 takes any more, or any
// more with a body.
func (e *Endpoint) serveOne(settings *connSettings, p *pending, now time.Time) bool {
	if e.needsHTTP1(settings, p) {
		e.serveHTTP1(settings, p, now)
		return true
	}
	stream := e.begin(settings, p.body)
	if stream == nil {
		return false
	}
	p.settle(stream, nil)
	return true
}

// serveHTTP1 is serve for one that wants a connection of its own.
func (e *Endpoint) serveHTTP1(settings *connSettings, p *pending, now time.Time) {
	if p.kind == anyConn {
		if c := e.popIdle(settings, now, nil); c != nil {
			p.settle(c, nil)
			return
		}
	}
	if p.opening {
		return
	}
	if limit := settings.pool.MaxConnections; limit > 0 && e.open >= limit {
		idle := e.idle.oldest()
		if idle == nil {
			return
		}
		e.discard(idle)
	}
	e.open++
	e.queue.opens(p)
	e.dials.running.Go(func() { e.openFor(settings, p) })
}

// fail tells all who wait for a connection that speaks HTTP/2 that there is none. The mutex is held.
func (q *queue) fail(err error) {
	for _, p := range q.all {
		if !p.over && !p.opening && p.kind != tunnelConn {
			p.settle(nil, err)
		}
	}
	q.removeOver()
}
