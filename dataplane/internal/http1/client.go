package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// The limits on what a service may send.
const (
	maxResponseHead   = 256 << 10
	maxResponseFields = 256
	maxInterim        = 16
)

// ClientConn is a connection to an endpoint. It carries one exchange at a time, whose goroutine owns it; but SendBody
// and its companions may run on another one meanwhile.
type ClientConn struct {
	sock *socket.Conn
	body body
	msg  message
	// sentAll tells that the request has been written to its end.
	sentAll bool
	broken  bool
	used    int
	// large tells that the response was so large that splicing pays.
	large bool
	// hollow tells that the response had no body although it might have looked as if it had one.
	hollow bool
	// tunnel tells that the connection has gone over to another protocol.
	tunnel bool
	// strict refuses what harmless faults of services are otherwise read in spite of.
	strict bool
	// torn tells that a write has found the connection reset.
	torn atomic.Bool
	// sentAt is since when the service is to answer; none while it is being sent a body.
	sentAt exchange.Moment

	registration socket.Registration
	pending      pendingRequest
	headLength   int // of the head that is buffered, when it is known
}

// NewClientConn takes a connection over. What breaks RFC 9112, but can be understood in one way only, is read in spite
// of that, and the connection does not carry another exchange then; with strict it is refused.
func NewClientConn(nc net.Conn, strict bool) *ClientConn {
	return &ClientConn{sock: socket.New(nc), strict: strict}
}

// Close closes the connection.
func (c *ClientConn) Close() {
	c.body.release()
	if c.tunnel && c.sock.Aborted() {
		c.sock.Reset() // what the service got is not all
	}
	c.Leave()
	_ = c.sock.Close()
}

// Abort makes every read and write of the connection fail at once. Any goroutine may call it.
func (c *ClientConn) Abort() { c.sock.Abort() }

// Used reports whether the connection has carried an exchange before.
func (c *ClientConn) Used() bool { return c.used > 0 }

// Quiet reports whether the endpoint has neither closed the connection nor sent anything unasked.
func (c *ClientConn) Quiet() bool {
	c.pending.unasked.Store(false) // what comes from here on is reported
	return c.sock.Quiet()
}

// Watched returns until when the connection's loop has seen that the endpoint has neither closed it nor sent anything
// unasked. Only what the loop calls may ask.
func (c *ClientConn) Watched() time.Time {
	if c.pending.unasked.Load() {
		return time.Time{}
	}
	return c.registration.Loop().PolledAt()
}

// Reusable reports whether the connection may carry another exchange: both messages are complete, both sides want to go
// on, nothing came after the response, and nobody has broken the exchange off.
func (c *ClientConn) Reusable() bool {
	return !c.broken && !c.sock.Aborted() && c.sentAll && c.body.over && c.msg.persistent() && !c.body.chunks.faulty && c.sock.Drained()
}

// Doubtful reports whether a reusable connection needs a look at what has come on it, however soon it is used again:
// services are known to send bodies where none can be, and what follows a response that has just filled its buffer was
// not received.
func (c *ClientConn) Doubtful() bool { return c.hollow || c.sock.Cap() > 0 && c.sock.Room() == 0 }

// Recycle makes a reusable connection ready to wait; it holds no buffer then. One that is in a loop is recycled on the
// loop's goroutine.
func (c *ClientConn) Recycle() {
	c.body.release()
	if loop := c.Loop(); loop != nil {
		c.sock.ReleaseIn(loop)
	} else {
		c.sock.Release()
	}
	c.used++
}

// Answer waits for the response's head and puts it into x.Response; 1xx responses go to x.Down. It is called once after
// a Send of a part of the body. The timeout begins when SendBody has sent the last part, or at once where the client
// waits for 100 (Continue).
func (c *ClientConn) Answer(x *exchange.Exchange, timeout time.Duration) (started bool, err error) {
	if err := c.awaitAnswer(x, timeout, time.Time{}); err != nil {
		return false, err
	}
	return c.readHead(x, timeout)
}

// awaitAnswer waits for the first bytes of an answer while the request's body may still be on its way. since is when an
// interim response came, with which the service's time begins anew; the zero time: there was none.
func (c *ClientConn) awaitAnswer(x *exchange.Exchange, timeout time.Duration, since time.Time) error {
	for now := time.Now(); ; now = time.Now() {
		wait, _ := c.sentAt.Left(x, now, timeout, since)
		c.sock.ReadWithin(now, remaining(now, max(wait, time.Nanosecond), x.Until()))
		err := c.sock.Fill()
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.sock.Aborted() || c.answerIsDue(x, time.Now(), timeout, since) {
			c.broken = true
			return classify(err)
		}
	}
}

// answerIsDue reports whether the service has had its time. It begins when the request has been sent: until then the
// client is waited for, or the service takes what it is sent.
func (c *ClientConn) answerIsDue(x *exchange.Exchange, now time.Time, timeout time.Duration, since time.Time) bool {
	left, sent := c.sentAt.Left(x, now, timeout, since)
	deadline := x.Until()
	return sent && left <= 0 || !deadline.IsZero() && !now.Before(deadline)
}

func classify(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF || ended(err) {
		return ErrStale
	}
	return err
}

// readHead parses the response's head, of which at least a byte is there.
func (c *ClientConn) readHead(x *exchange.Exchange, timeout time.Duration) (started bool, err error) {
	for interim := 0; ; {
		head, err := c.completeHead(x, timeout)
		if err != nil {
			c.broken = true
			return true, err
		}
		m, refused := parseResponse(head, x, x.Request.Method, maxResponseFields, c.strict)
		if refused != nil {
			c.broken = true
			return true, &fault.Error{Code: fault.UpstreamInvalid, Reason: "the service's response is malformed: " + refused.Reason}
		}
		c.sock.Consume(len(head))
		if x.Response.Status == 101 {
			return true, c.switches(x, &m)
		}
		if x.Response.Status >= 200 {
			c.msg, c.hollow = m, m.hollow
			c.large = x.Response.ContentLength >= int64(socket.BodySize.Bytes())
			c.body.start(x.Response.ContentLength, m.chunked, false)
			c.body.chunks.lenient = !c.strict
			return true, nil
		}
		interim++
		if interim > maxInterim {
			c.broken = true
			return true, &fault.Error{Code: fault.UpstreamInvalid, Reason: "the service sent too many interim responses"}
		}
		if err := x.Down.WriteInterim(x.Response.Status, &x.Response.Header, x.Response.Head); err != nil {
			c.broken = true
			return true, err
		}
		x.Response.Header.Reset()
		if !c.sentAll && len(c.sock.Buffered()) == 0 { // the client may only begin now to send the body
			c.sock.Rewind()
			if err := c.awaitAnswer(x, timeout, time.Now()); err != nil {
				return true, err
			}
		}
	}
}

func (c *ClientConn) completeHead(x *exchange.Exchange, timeout time.Duration) ([]byte, error) {
	if n := c.headLength; n > 0 {
		c.headLength = 0
		return c.sock.Buffered()[:n], nil
	}
	looked := 0
	for {
		have := c.sock.Buffered()
		if n := headEnd(have, looked); n > 0 {
			return have[:n], nil
		}
		looked = len(have)
		if len(have) >= maxResponseHead {
			return nil, &fault.Error{Code: fault.UpstreamInvalid, Reason: "the service's response has a head larger than 256 KiB"}
		}
		switch {
		case len(have) == 0:
			c.sock.Rewind()
		case c.sock.Room() == 0:
			c.sock.Compact()
			if c.sock.Room() == 0 {
				socket.Give(c.sock.Grow(socket.LargeSize))
			}
		}
		now := time.Now()
		c.sock.ReadWithin(now, remaining(now, timeout, x.Until()))
		if err := c.sock.Fill(); err != nil {
			return nil, classify(err)
		}
	}
}

// NextBody waits for the next part of the response's body; io.EOF comes after the last, when trailers are known. A part
// is valid until the next call, which also ends the views of the head. more tells whether another call would give
// anything.
func (c *ClientConn) NextBody(x *exchange.Exchange, timeout time.Duration) ([]byte, error) {
	part, err := c.body.next(c.sock, &x.Response.Trailer, maxResponseFields, timeout, x.Until())
	if err == io.EOF && c.body.framed == byClose && c.torn.Load() {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		c.broken = true
		err = malformed(err)
	}
	return part, err
}

// malformed puts the blame for a body that can't be understood on the service.
func malformed(err error) error {
	var own *fault.Error
	if errors.As(err, &own) {
		return &fault.Error{Code: fault.UpstreamInvalid, Reason: "the service's response is malformed: " + own.Reason}
	}
	return err
}

// BufferedBody returns what came of the body with the head, and whether that is all of it.
func (c *ClientConn) BufferedBody(x *exchange.Exchange, timeout time.Duration) (part []byte, whole bool, err error) {
	if c.body.over {
		return nil, true, nil
	}
	if c.body.framed == byLength && len(c.sock.Buffered()) == 0 && c.body.left <= int64(c.sock.Room()) {
		// Many servers send the head and a small body apart. Waiting for the body lets both go on together.
		now := x.Tick()
		c.sock.ReadWithin(now, remaining(now, timeout, x.Until()))
		if err := c.sock.Fill(); err != nil {
			c.broken = true
			return nil, false, classify(err)
		}
		x.Tick()
	}
	part, err = c.body.take(c.sock, &x.Response.Trailer, maxResponseFields)
	if err != nil {
		c.broken = true
		return nil, false, malformed(err)
	}
	return part, c.body.over, nil
}

// minSplice is the smallest rest of a body that is moved inside the kernel; below, the calls cost more than the copying
// (make bench, 100 KiB).
const minSplice = 32 << 10

// firstRead chooses the buffer for the beginning of a response. When the last response was large, most of this one is
// probably going to be moved inside the kernel, and only the rest would be copied through a large buffer.
func (c *ClientConn) firstRead(x *exchange.Exchange) socket.Size {
	if c.large && c.splicesTo(x) != nil {
		return socket.HeadSize
	}
	return socket.BodySize
}

// splicesTo returns the client's connection where bytes can go there inside the kernel, or nil.
func (c *ClientConn) splicesTo(x *exchange.Exchange) *conn {
	to, ok := x.Down.(*conn)
	if !ok || !c.sock.CanSplice(to.sock) {
		return nil
	}
	return to
}

// MoveBody sends what is left of a large body of known length on without reading it, where both connections allow that,
// and otherwise does nothing. ofClient tells that err is of the client's connection.
func (c *ClientConn) MoveBody(x *exchange.Exchange, timeout time.Duration) (moved int64, ofClient bool, err error) {
	if c.body.framed != byLength || c.body.left < minSplice || len(c.sock.Buffered()) > 0 {
		return 0, false, nil
	}
	to := c.splicesTo(x)
	if to == nil || !to.takesRaw() {
		return 0, false, nil
	}
	c.sock.Release()
	moved, ofClient, err = c.sock.Splice(to.sock, c.body.left, func(now time.Time) {
		c.sock.ReadWithin(now, remaining(now, timeout, x.Until()))
		to.sock.WriteWithin(now, to.server.limits.WriteTimeout)
	})
	c.body.left -= moved
	c.body.over = c.body.left == 0
	switch {
	case err != nil && ofClient:
		to.req.writeErr = err
		c.broken = true
	case err != nil || !c.sock.Quiet(): // nobody has seen what follows the body
		c.broken = true
	}
	return moved, ofClient, err
}

// BodyOver reports whether the response's body has been read to its end.
func (c *ClientConn) BodyOver() bool { return c.body.over }
