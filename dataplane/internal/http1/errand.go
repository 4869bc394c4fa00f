package http1

import (
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// Errand is who waits for a response in a loop.
type Errand interface {
	// Answered is called on a loop's goroutine when something has come, or the connection is over. Collect tells.
	Answered()
	// Late is called on another goroutine instead, when nothing has come for too long to wait for it in a loop: Wait does that.
	Late()
}

// errand is a connection's part in a loop.
type errand struct {
	by      Errand
	under   atomic.Bool   // by is to be called, once
	unasked atomic.Bool   // more may have come than what was asked for, be it the end
	number  atomic.Uint32 // of errands
	looked  atomic.Uint32 // number at the last tick
	request []byte        // is to be sent
	at      time.Time     // when it was
	err     error         // instead of what was to be received
	headed  bool          // the response's head is complete
}

// take makes the caller the one who calls by, and so the connection's owner, and reports whether it is.
func (e *errand) take() bool { return e.under.CompareAndSwap(true, false) }

// Prepare makes Dispatch send a whole request, and by be called when there is an answer. It reports whether that can be done in the loop, on whose goroutine it
// is called; otherwise nothing happens.
func (c *ClientConn) Prepare(x *exchange.Exchange, part []byte, loop *socket.Loop, by Errand) bool {
	if x.Request.ContentLength < 0 || !c.sits(loop) {
		return false
	}
	room := socket.Take(socket.HeadSize)
	b := appendRequest(room[:0], x)
	if len(b)+len(part) > len(room) { // or the head has grown out of it
		socket.Give(room)
		return false
	}
	c.sentAll, c.broken = true, false
	c.sock.SetSize(socket.BodySize)
	e := &c.errand
	e.by, e.headed, e.request, e.at = by, false, append(b, part...), x.Now
	e.number.Add(1)
	return true
}

// Dispatch does what Send does with the request that was prepared, but does not wait. It reports whether the request has left: then the connection's owner
// is whoever is called about the answer. Otherwise nobody is called, and the endpoint has nothing of the request, or, where there is an error, a part of it.
func (c *ClientConn) Dispatch() (left bool, err error) {
	b := c.errand.request
	c.errand.request = nil
	n, err := c.sock.Offer(b)
	left = n == len(b)
	c.broken = !left && (n > 0 || err != nil)
	socket.Give(b)
	switch {
	case left:
		c.errand.under.Store(true)
		return true, nil
	case n > 0:
		return false, ErrStale
	}
	return false, nil
}

// sits makes the connection a guest of the loop, where it is none yet, or of another one; it stays until Leave.
func (c *ClientConn) sits(loop *socket.Loop) (taken bool) {
	switch {
	case c.seat.Loop() == loop:
		return true
	case c.seat.Taken():
		c.seat, taken = c.seat.Move(c.sock, loop)
	case c.sock.CanLoop():
		c.seat, taken = loop.Add(c.sock, c, socket.Answers)
	}
	return taken
}

// Leave takes the connection out of its loop, if it is in one: its methods may wait then.
func (c *ClientConn) Leave() {
	if c.seat.Taken() {
		c.seat.Leave(c.sock)
		c.seat = socket.Seat{}
	}
}

// Loop returns the loop whose guest the connection is; nil: none's.
func (c *ClientConn) Loop() *socket.Loop { return c.seat.Loop() }

// Stirred implements socket.Guest.
func (c *ClientConn) Stirred(ended bool) bool {
	awaited := c.errand.take()
	if !awaited || ended { // an end that comes together with the response is not told of again
		c.errand.unasked.Store(true)
	}
	return awaited
}

// Receive implements socket.Guest.
func (c *ClientConn) Receive() bool {
	e := &c.errand
	var got bool
	if got, e.err = c.sock.Receive(); got || e.err != nil {
		return true
	}
	e.under.Store(true) // it was of an arrival that had been received before
	return false
}

// Serve implements socket.Guest.
func (c *ClientConn) Serve() { c.errand.by.Answered() }

// Tick implements socket.Guest: an errand that takes too long for a loop is ended.
func (c *ClientConn) Tick() {
	e := &c.errand
	if number := e.number.Load(); e.looked.Swap(number) != number {
		return
	}
	if e.take() {
		go e.by.Late()
	}
}

// Progress is how far a response has come that is collected.
type Progress uint8

// The stages.
const (
	// Incomplete is a response that has to be waited for: by Wait, and BufferedBody after that.
	Incomplete Progress = iota
	// Resting is a response whose body comes soon: Answered or Late will be called again, or have been, and the exchange is not the caller's any more.
	Resting
	// Complete is a response whose head is in x.Response, and of whose body BufferedBody returns what there is, without waiting.
	Complete
)

// Collect takes what there is of the response to a request that was dispatched, without waiting. started tells that something of the response came.
func (c *ClientConn) Collect(x *exchange.Exchange) (at Progress, started bool, err error) {
	e := &c.errand
	if e.err != nil {
		c.broken = true
		return Incomplete, e.headed, classify(e.err)
	}
	if !e.headed {
		const statusAt = len("HTTP/1.1 ")
		have := c.sock.Buffered()
		n := headEnd(have, 0)
		if n <= statusAt || have[statusAt] == '1' {
			return Incomplete, true, nil
		}
		c.headLength = n
		if started, err = c.readHead(x, 0); err != nil {
			return Incomplete, started, err
		}
		e.headed = true
	}
	have := int64(len(c.sock.Buffered()))
	if c.body.over || c.body.framed != byLength || have >= c.body.left {
		return Complete, true, nil
	}
	if c.body.left-have > int64(c.sock.Room()) {
		return Incomplete, true, nil
	}
	c.errand.under.Store(true)
	return Resting, true, nil
}

// Wait waits for the response's head, as Send does after it has sent the request.
func (c *ClientConn) Wait(x *exchange.Exchange, timeout time.Duration) (started bool, err error) {
	if c.errand.headed {
		return true, nil
	}
	if len(c.sock.Buffered()) == 0 {
		now := time.Now()
		c.sock.ReadWithin(now, remaining(now, max(timeout-now.Sub(c.errand.at), time.Nanosecond), x.Until()))
		if err := c.sock.Fill(); err != nil {
			c.broken = true
			return false, classify(err)
		}
	}
	return c.readHead(x, timeout)
}
