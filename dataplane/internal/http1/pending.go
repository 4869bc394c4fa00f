package http1

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// pendingRequest is the request that a connection in a loop has sent and waits for the response to.
type pendingRequest struct {
	waiter  codec.ResponseWaiter
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

// Prepare implements codec.LoopRequester.
func (c *ClientConn) Prepare(x *exchange.Exchange, part []byte, loop *socket.Loop, waiter codec.ResponseWaiter) bool {
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

// Dispatch implements codec.LoopRequester.
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

// Leave implements codec.LoopRequester.
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

// Collect implements codec.LoopRequester.
func (c *ClientConn) Collect(x *exchange.Exchange) (at codec.Progress, started bool, err error) {
	p := &c.pending
	if v := p.defect; v != nil {
		p.defect = nil
		panic(v)
	}
	if p.err != nil {
		c.broken = true
		return codec.Incomplete, p.headed, classify(p.err)
	}
	if !p.headed {
		const statusAt = len("HTTP/1.1 ")
		have := c.sock.Buffered()
		n := headEnd(have, 0)
		if n <= statusAt || have[statusAt] == '1' {
			return codec.Incomplete, true, nil
		}
		c.headLength = n
		if started, err = c.readHead(x, 0); err != nil {
			return codec.Incomplete, started, err
		}
		p.headed = true
	}
	have := int64(len(c.sock.Buffered()))
	if c.body.over || c.body.framed != byLength || have >= c.body.left {
		return codec.Complete, true, nil
	}
	if c.body.left-have > int64(c.sock.Room()) {
		return codec.Incomplete, true, nil
	}
	c.pending.waiting.Store(true)
	return codec.Receiving, true, nil
}

// Wait implements codec.LoopRequester: it does what Send does after it has sent the request.
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
