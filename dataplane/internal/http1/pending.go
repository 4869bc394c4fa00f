package http1

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// ResponseWaiter waits for the response to a pending request in a loop.
type ResponseWaiter interface {
	// Answered is called on a loop's goroutine when bytes have come or the connection is over: Collect tells which.
	Answered()
	// Late is called on another goroutine instead, when nothing has come for too long to wait in a loop: Wait goes on
	// waiting.
	Late()
}

// pendingRequest is the request that a connection in a loop has sent and waits for the response to.
type pendingRequest struct {
	waiter  ResponseWaiter
	waiting atomic.Bool   // waiter is to be called, once
	unasked atomic.Bool   // more may have come than the response, be it the end
	number  atomic.Uint32 // how many requests have been prepared
	looked  atomic.Uint32 // number at the last tick
	request []byte        // to be sent
	sentAt  time.Time     // about
	err     error         // of Receive
	defect  any           // that Receive has panicked with, and where
	headed  bool          // the response's head is complete
}

// take makes the caller the one who calls the waiter, and so the connection's owner. It reports whether it is.
func (p *pendingRequest) take() bool { return p.waiting.CompareAndSwap(true, false) }

// Prepare makes Dispatch send a whole request, and waiter be called about the response. It reports whether that can be
// done in the loop, on whose goroutine it is called; otherwise nothing happens.
func (c *ClientConn) Prepare(x *exchange.Exchange, part []byte, loop *socket.Loop, waiter ResponseWaiter) bool {
	if x.Request.ContentLength < 0 || !c.register(loop) {
		return false
	}
	room := loop.Spare().Take(socket.HeadSize)
	b := appendRequest(room[:0], x)
	if len(b)+len(part) > len(room) { // or the head has grown out of it
		loop.Spare().Give(room)
		return false
	}
	c.sentAll, c.broken = true, false
	c.sock.SetSize(socket.BodySize)
	p := &c.pending
	p.waiter, p.headed, p.request, p.sentAt = waiter, false, append(b, part...), x.Now
	p.number.Add(1)
	return true
}

// Dispatch sends the request that was prepared, without waiting. It reports whether the request has left: then the
// waiter, when it is called, owns the connection. Otherwise nobody is called, and the endpoint has nothing of the
// request or, where there is an error, a part of it.
func (c *ClientConn) Dispatch() (left bool, err error) {
	b := c.pending.request
	c.pending.request = nil
	n, err := c.sock.Offer(b)
	left = n == len(b)
	c.broken = !left && (n > 0 || err != nil)
	c.Loop().Spare().Give(b)
	switch {
	case left:
		c.pending.waiting.Store(true)
		return true, nil
	case n > 0:
		return false, ErrStale
	}
	return false, nil
}

// register registers the connection with the loop, perhaps instead of with another one, until Leave.
func (c *ClientConn) register(loop *socket.Loop) (taken bool) {
	switch {
	case c.registration.Loop() == loop:
		return true
	case c.registration.Taken():
		c.registration, taken = c.registration.Move(c.sock, loop)
	case c.sock.CanLoop():
		c.registration, taken = loop.Add(c.sock, c, socket.Upstream)
	}
	return taken
}

// Leave takes the connection out of its loop, if it is in one: its methods may wait then.
func (c *ClientConn) Leave() {
	if c.registration.Taken() {
		c.registration.Leave(c.sock)
		c.registration = socket.Registration{}
	}
}

// Loop returns the loop that the connection is registered with; nil: none.
func (c *ClientConn) Loop() *socket.Loop { return c.registration.Loop() }

// OnReadable implements socket.EventHandler.
func (c *ClientConn) OnReadable(ended bool) bool {
	awaited := c.pending.take()
	if !awaited || ended { // an end that comes together with the response is not reported again
		c.pending.unasked.Store(true)
	}
	return awaited
}

// Receive implements socket.EventHandler.
func (c *ClientConn) Receive() (goesOn bool) {
	p := &c.pending
	defer func() {
		if v := recover(); v != nil { // it is the exchange's, which Collect tells
			p.defect, goesOn = fmt.Sprintf("%v, as it received:\n%s", v, debug.Stack()), true
		}
	}()
	var got bool
	if got, p.err = c.sock.ReceiveIn(c.Loop()); got || p.err != nil {
		return true
	}
	p.waiting.Store(true) // the event was of bytes that had been received before
	return false
}

// Serve implements socket.EventHandler.
func (c *ClientConn) Serve() { c.pending.waiter.Answered() }

// Tick implements socket.EventHandler: a request whose response takes too long leaves the loop.
func (c *ClientConn) Tick() {
	p := &c.pending
	if number := p.number.Load(); p.looked.Swap(number) != number {
		return
	}
	if p.take() {
		go p.waiter.Late()
	}
}

// Progress is how far a response has come.
type Progress uint8

// The stages.
const (
	// Incomplete is a response that has to be waited for: by Wait, and BufferedBody after that.
	Incomplete Progress = iota
	// Receiving is a response whose body comes soon: Answered or Late will be called again, or have been, and the
	// exchange is not the caller's any more.
	Receiving
	// Complete is a response whose head is in x.Response, and of whose body BufferedBody returns what there is, without
	// waiting.
	Complete
)

// Collect takes what there is of the response to a request that was dispatched, without waiting. started tells that
// something of the response came.
func (c *ClientConn) Collect(x *exchange.Exchange) (at Progress, started bool, err error) {
	p := &c.pending
	if v := p.defect; v != nil {
		p.defect = nil
		panic(v)
	}
	if p.err != nil {
		c.broken = true
		return Incomplete, p.headed, classify(p.err)
	}
	if !p.headed {
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
		p.headed = true
	}
	have := int64(len(c.sock.Buffered()))
	if c.body.over || c.body.framed != byLength || have >= c.body.left {
		return Complete, true, nil
	}
	if c.body.left-have > int64(c.sock.Room()) {
		return Incomplete, true, nil
	}
	c.pending.waiting.Store(true)
	return Receiving, true, nil
}

// Wait waits for the response's head, as Send does after it has sent the request.
func (c *ClientConn) Wait(x *exchange.Exchange, timeout time.Duration) (started bool, err error) {
	if c.pending.headed {
		return true, nil
	}
	if len(c.sock.Buffered()) == 0 {
		now := time.Now()
		c.sock.ReadWithin(now, remaining(now, max(timeout-now.Sub(c.pending.sentAt), time.Nanosecond), x.Until()))
		if err := c.sock.Fill(); err != nil {
			c.broken = true
			return false, classify(err)
		}
	}
	return c.readHead(x, timeout)
}
