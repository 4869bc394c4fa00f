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
	stirred atomic.Bool   // something has arrived since it was last looked for
	number  atomic.Uint32 // of errands
	looked  atomic.Uint32 // number at the last tick
	err     error         // instead of what was to be received
	headed  bool          // the response's head is complete
}

// take makes the caller the one who calls by, and so the connection's owner, and reports whether it is.
func (e *errand) take() bool { return e.under.CompareAndSwap(true, false) }

// Dispatch does what Send does with a whole request, but does not wait: by is called when there is an answer. It reports whether the request has left;
// otherwise nobody is called, and the endpoint has nothing that it could act on.
func (c *ClientConn) Dispatch(x *exchange.Exchange, part []byte, loop *socket.Loop, by Errand) bool {
	if !c.sits(loop) {
		return false
	}
	c.sentAll, c.broken = true, false
	c.sock.SetSize(socket.BodySize)
	e := &c.errand
	e.by, e.headed = by, false
	e.number.Add(1)
	e.stirred.Store(false)
	if !c.offer(x, part) {
		return false
	}
	c.rest()
	return true
}

// offer writes a request, and reports whether the socket took all of it. One that took a part is broken.
func (c *ClientConn) offer(x *exchange.Exchange, part []byte) bool {
	room := socket.Take(socket.HeadSize)
	defer socket.Give(room) // the head may have grown out of it
	b := appendRequest(room[:0], x)
	if len(b)+len(part) > len(room) || x.Request.ContentLength < 0 {
		return false
	}
	b = append(b, part...)
	n, err := c.sock.Offer(b)
	c.broken = err != nil || n > 0 && n < len(b)
	return n == len(b)
}

// rest makes the connection wait for by. Its owner must not touch it any more then.
func (c *ClientConn) rest() {
	c.errand.under.Store(true)
	// What was awaited may have arrived before that, in another loop.
	if c.errand.stirred.Load() {
		c.turn()
	}
}

// turn receives what has arrived, if nobody else does.
func (c *ClientConn) turn() {
	e := &c.errand
	for e.take() {
		e.stirred.Store(false)
		var got bool
		if got, e.err = c.sock.Receive(); got || e.err != nil {
			e.by.Answered()
			return
		}
		// It was of an arrival that had been received before.
		e.under.Store(true)
		if !e.stirred.Load() {
			return
		}
	}
}

// sits makes the connection a loop's guest where it is none yet; it stays until Leave.
func (c *ClientConn) sits(loop *socket.Loop) bool {
	if c.seat.Taken() {
		return true
	}
	if !c.sock.CanLoop() {
		return false
	}
	seat, taken := loop.Add(c.sock, c, socket.Answers)
	c.seat = seat
	return taken
}

// Leave takes the connection out of its loop, if it is in one: its methods may wait then.
func (c *ClientConn) Leave() {
	if c.seat.Taken() {
		c.seat.Leave(c.sock)
		c.seat = socket.Seat{}
	}
}

// In reports whether the connection is a loop's guest, or, where that is nil, nobody's.
func (c *ClientConn) In(loop *socket.Loop) bool { return c.seat.In(loop) }

// Stirred implements socket.Guest.
func (c *ClientConn) Stirred(bool) {
	c.errand.stirred.Store(true)
	c.turn()
}

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
		if headEnd(have, 0) == 0 || len(have) <= statusAt || have[statusAt] == '1' {
			return Incomplete, true, nil
		}
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
	c.rest()
	return Resting, true, nil
}

// Wait waits for the response's head, as Send does after it has sent the request.
func (c *ClientConn) Wait(x *exchange.Exchange, timeout time.Duration) (started bool, err error) {
	if c.errand.headed {
		return true, nil
	}
	if len(c.sock.Buffered()) == 0 {
		now := time.Now()
		c.sock.ReadWithin(now, remaining(now, max(timeout-now.Sub(x.Start), time.Nanosecond), x.Until()))
		if err := c.sock.Fill(); err != nil {
			c.broken = true
			return false, classify(err)
		}
	}
	return c.readHead(x, timeout)
}
