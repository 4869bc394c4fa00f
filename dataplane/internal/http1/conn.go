package http1

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// conn is one client connection; it implements exchange.Downstream. Besides what belongs to the connection, it has the
// state of the request under way, and its place.
type conn struct {
	server    *Server
	sock      *socket.Conn
	peer      *exchange.Peer
	shard     uint32
	endedFn   func()      // called once the connection is over
	arrivedFn func() bool // c.arrived

	idle  atomic.Bool   // it waits for a request in its goroutine
	turns atomic.Uint32 // how often an exchange has begun
	watch abortWatch

	idleSince  time.Time // since when it waits for a request
	finishedAt time.Time // when the last exchange ended
	quick      uint16    // how many simple requests have come in a row
	headLength int       // of the next head, when it is known
	ended      bool      // the connection is over
	left       bool      // leave was called
	blank      bool      // an empty line came before the next request
	served     bool      // a request has come
	http2      bool      // the client speaks HTTP/2

	req   requestState
	place place
}

// requestState is what belongs to one request and its response. begin zeroes it by assignment, so that nothing of one
// request is left for the next.
type requestState struct {
	x         *exchange.Exchange // nil between two exchanges
	msg       message
	body      body
	bodyErr   error       // why no more of the body comes
	cancelled atomic.Bool // CancelBody was called
	coming    atomic.Bool // more of the body is to come than has been read

	bodyless bool   // the response has no body, whatever its length says
	chunked  bool   // the response is written in chunks
	begun    bool   // a chunk was written
	whole    bool   // the response was written at once
	close    bool   // the connection ends after this exchange
	cut      bool   // the response was not completed
	refused  bool   // a head was not understood: nobody knows how much of it is to come
	kept     []byte // the response that Flush sends
	writeErr error
}

// reset makes it that of a new exchange, whose body, until a head says more, is empty. Only the memory for trailers
// stays.
func (r *requestState) reset(x *exchange.Exchange) {
	trail := r.body.chunks.trail[:0]
	*r = requestState{x: x, body: emptyBody}
	r.body.chunks.trail = trail
}

// place is where a connection is served: in a goroutine of its own, or in a loop.
type place struct {
	// state says who works on the connection.
	state     atomic.Uint32
	joinAfter uint16 // how many simple requests in a row it takes to be served in a loop

	// What follows is of the stay in a loop.
	loop         *socket.Loop
	joinedAt     uint32 // turns when it joined
	arrival      arrival
	mu           sync.Mutex // protects registration
	registration socket.Registration
	tickTurns    atomic.Uint32 // turns at the last tick
	idleTicks    atomic.Uint32 // for how many ticks nothing has come
}

// run serves the connection until it is parked or over.
func (c *conn) run() {
	defer c.rescue()
	if c.serve() {
		return // wake goes on
	}
	c.leave()
}

// leave is the end of the connection, or of HTTP/1 on it.
func (c *conn) leave() {
	c.left = true
	c.server.remove(c)
	if c.http2 {
		c.server.http2(c.sock, c.peer, c.endedFn)
		return
	}
	c.endedFn()
}

// wake goes on with a connection that was parked.
func (c *conn) wake() {
	c.sock.ResumeReads()
	c.run()
}

// serve alternates between waiting, in which the connection holds neither buffer nor exchange, and serving what has
// arrived. It reports whether the connection has been parked; otherwise it is over.
func (c *conn) serve() (parked bool) {
	var lastUntil time.Time // the time that Drain gives ends then; zero: it has not begun
	for !c.ended {
		if len(c.sock.Buffered()) > 0 {
			c.serveBuffered()
			continue
		}
		if c.join() {
			return true
		}
		if len(c.sock.Buffered()) > 0 { // TLS had something
			continue
		}
		c.await(time.Now())
		if c.server.draining.Load() && !c.awaitLast(&lastUntil) {
			break
		}
		if err := c.sock.Each(c.arrivedFn); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) || c.sock.Aborted() {
				break // nobody waits for an answer
			}
			if c.server.draining.Load() {
				continue
			}
			now := time.Now()
			if now.Sub(c.idleSince) >= c.server.limits.IdleTimeout {
				break
			}
			if c.park() {
				return true
			}
			continue
		}
		c.serveBuffered()
	}
	if !c.http2 {
		c.end()
	}
	return false
}

// serveBuffered serves what has to be waited for in a way that Each can't: the rest of a head or of a body.
func (c *conn) serveBuffered() {
	c.idle.Store(false)
	for !c.ended && len(c.sock.Buffered()) > 0 {
		c.ended = !c.next()
	}
	c.idleSince = time.Time{}
}

// park lets the idle connection wait without this goroutine, where that is possible.
func (c *conn) park() bool {
	idle := c.server.idleConns
	// From here on the goroutine that wakes may be at it.
	id, ok := idle.Park(c.sock, c.idleSince.Add(c.server.limits.IdleTimeout), c.wake)
	if ok && (c.server.draining.Load() || c.sock.Aborted()) { // Drain or Cut may have been there before
		idle.Wake(id)
	}
	return ok
}

// becomeIdle makes the connection wait for a request.
func (c *conn) becomeIdle(now time.Time) {
	c.idleSince = now
	c.await(now)
}

// await makes the connection wait for a request for as long as it may: in this goroutine at first, where it can be
// parked afterwards.
func (c *conn) await(now time.Time) {
	if c.idleSince.IsZero() {
		c.idleSince = now
	}
	c.sock.Release()
	c.sock.SetSize(socket.HeadSize)
	left := c.server.limits.IdleTimeout - now.Sub(c.idleSince)
	if c.server.idleConns != nil && left > c.server.parkAfter {
		left = c.server.parkAfter
	}
	c.sock.ReadWithin(now, max(left, time.Nanosecond))
	c.idle.Store(true)
}

// awaitLast makes the connection of a server that drains wait for one more request, until a time that is set at the
// first call; false: it is over. Drain may interrupt a connection that has seen already that the server drains, so an
// interruption does not say that the time is.
func (c *conn) awaitLast(until *time.Time) bool {
	c.sock.ResumeReads()
	now := time.Now()
	if until.IsZero() {
		*until = now.Add(c.server.limits.LastRequestTimeout)
	}
	left := until.Sub(now)
	if left > 0 {
		c.sock.ReadWithin(now, left)
	}
	return left > 0
}

// arrived serves the requests that have arrived whole. It returns false when there is more to wait for than the next
// request, or when the connection is over.
func (c *conn) arrived() bool {
	c.idle.Store(false)
	for len(c.sock.Buffered()) > 0 {
		if !c.complete() {
			return false
		}
		if !c.next() {
			c.ended = true
			return false
		}
	}
	c.becomeIdle(c.finishedAt)
	return !c.server.draining.Load() && !c.joins()
}

// complete reports whether the next request is buffered to its end, body included, as most are. It may say no where it
// is.
func (c *conn) complete() bool {
	c.skipEmptyLine()
	have := c.sock.Buffered()
	if len(have) == 0 {
		return false
	}
	head, length, simple := peek(have)
	c.headLength = head
	return simple && length <= len(have)-head
}

// prefaceHead is the part of the preface of HTTP/2 that looks like a head (RFC 9113 section 3.4).
const prefaceHead = "PRI * HTTP/2.0\r\n\r\n"

// next serves one request and reports whether another may follow.
func (c *conn) next() bool {
	x := c.open()
	if x == nil {
		return false
	}
	c.server.handler.Serve(x)
	return c.over()
}

// open reads a request's head for the handler to serve; nil: there is none to serve, and none will follow.
func (c *conn) open() *exchange.Exchange {
	head, err := c.readHead()
	if err != nil {
		c.refuseHead(err)
		return nil
	}
	if !c.served && c.server.http2 != nil && len(head) == len(prefaceHead) && string(head) == prefaceHead {
		c.http2 = true
		return nil
	}
	x := c.takeExchange()
	c.begin(x)
	if err := c.parse(x, head); err != nil {
		c.refuse(x, err)
	}
	return x
}

// over ends the exchange, which the handler has served, and reports whether another may follow.
func (c *conn) over() bool {
	x := c.req.x
	if c.req.msg.connect && !x.Response.Tunnel {
		c.req.refused = true
	}
	if !c.req.body.over {
		// What is left of the body would be taken for the next request.
		c.req.close = true
	}
	if c.req.cancelled.Load() {
		c.req.cancelled.Store(false)
		c.sock.ResumeReads()
	}
	if c.req.whole && x.Now.Sub(x.Start) < patience {
		c.quick = min(c.quick+1, maxJoinAfter)
	} else {
		c.quick = 0
	}
	c.finishedAt, c.req.x = x.Now, nil
	c.giveExchange(x)
	c.req.body.release()
	return !c.req.close && !c.req.cut && c.req.writeErr == nil
}

// end closes the connection, which lingers where the client may still be sending.
func (c *conn) end() {
	if c.req.cut {
		c.sock.Reset()
	} else if !c.req.body.over || c.req.refused || len(c.sock.Buffered()) > 0 {
		c.linger()
	}
	_ = c.sock.Close()
}
