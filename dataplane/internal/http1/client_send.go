package http1

import (
	"errors"
	"strconv"
	"syscall"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// ErrStale is the end of a connection before anything of a response. Where the connection has carried an exchange
// before, the service may have closed it as an idle one, and not have seen the request (RFC 9112 section 9.3.1).
var ErrStale = errors.New("the endpoint closed the connection before it answered")

// ErrUnsent is the end of a connection that had carried an exchange before, and that nothing of the request could be
// written to.
var ErrUnsent = errors.New("the endpoint has closed the connection")

// firstWrite is how much of a request is written before it is looked for an answer: a socket that nothing waits to be
// sent on takes it at once, even where the service reads nothing.
const firstWrite = 32 << 10

// Send writes the request's head with the given first part of its body, or as much of it as is written without waiting,
// and returns what is left of the part. Where that is nothing and whole tells that the part is all of the body, it also
// waits for the response's head, as Answer does; otherwise the caller sends the rest with SendBody from another
// goroutine, and calls Answer meanwhile. started tells that something of the response came: without it, the exchange
// may be tried elsewhere if its request may.
func (c *ClientConn) Send(
	x *exchange.Exchange, part []byte, whole bool, timeout time.Duration,
) (left []byte, started bool, err error) {
	c.broken = false
	c.sock.SetSize(c.firstRead(x))
	now := x.Now
	if c.used == 0 || x.Request.ContentLength != 0 {
		now = time.Now()
	}
	wait := remaining(now, timeout, x.Until())
	c.sock.WriteWithin(now, wait)
	c.sock.ReadWithin(now, wait)
	head := socket.Take(socket.HeadSize)
	b := appendRequest(head[:0], x)
	b, part, left = c.first(b, x, part, whole)
	c.sentAll = whole && len(left) == 0
	switch {
	case c.sentAll:
	case x.Request.Expects100 && len(part) == 0 && len(left) == 0:
		c.sentAt.Set(x, now) // the client waits for a word of the service's
	default:
		c.sentAt.Clear()
	}
	written := -1 // not known
	if len(part) == 0 && c.sentAll {
		written, err = c.sock.SendAndFill(b)
	} else if err = c.sock.Write(b, part); err == nil {
		written = len(b)
		if c.sentAll {
			err = c.sock.Fill()
		}
	}
	switch {
	case !ended(err) || written == len(b):
	case written == 0 && c.used > 0:
		err = ErrUnsent
	default:
		c.sock.ReadWithin(now, wait)
		err = c.refused(err)
	}
	socket.Give(head) // b may have grown out of it
	switch {
	case err == nil && c.sentAll:
		started, err = c.readHead(x, timeout)
		return nil, started, err
	case err == nil:
		return left, false, nil
	}
	c.broken = true
	return nil, false, classify(err)
}

// first appends to a head what is written with it of the first part of a body, unless that is to be written beside it,
// and returns what is left of the part.
func (c *ClientConn) first(b []byte, x *exchange.Exchange, part []byte, whole bool) (with, beside, left []byte) {
	const size = 16 // of the line before a chunk, the one after it, and the last chunk
	chunked := x.Request.ContentLength < 0
	switch {
	case chunked && len(part)+size > cap(b)-len(b):
		return b, nil, part
	case chunked:
		return appendChunk(b, part, whole, x), nil, nil
	case len(b)+len(part) <= cap(b):
		return append(b, part...), nil, nil
	case len(b)+len(part) <= firstWrite:
		return b, part, nil
	}
	n := max(firstWrite-len(b), 0)
	return b, part[:n], part[n:]
}

// refused goes on after a request that could not be written to its end: a service may answer what it has seen of it,
// and close the connection.
func (c *ClientConn) refused(err error) error {
	c.broken = true
	c.tear(err)
	if !c.sentAll {
		return nil // Answer reads it
	}
	return c.sock.Fill()
}

// tear notes that a write has found the connection reset: the end that is read then is not the end of a body.
func (c *ClientConn) tear(err error) {
	if errors.Is(err, syscall.ECONNRESET) {
		c.torn.Store(true)
	}
}

// ended reports whether the peer has closed the connection, as a write sees it.
func ended(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// SendBody writes a further part of the request's body; last tells that it is the end.
func (c *ClientConn) SendBody(x *exchange.Exchange, part []byte, last bool, timeout time.Duration) error {
	c.sentAt.Clear()
	err := c.sendBody(x, part, last, timeout)
	c.tear(err)
	if last || err != nil {
		c.sentAt.Set(x, time.Now())
	}
	return err
}

func (c *ClientConn) sendBody(x *exchange.Exchange, part []byte, last bool, timeout time.Duration) error {
	now := time.Now()
	wait := remaining(now, timeout, x.Until())
	if x.Request.ContentLength >= 0 {
		if len(part) == 0 {
			return nil
		}
		c.sock.WriteWithin(now, wait)
		return c.sock.Write(part, nil)
	}
	var line [24]byte
	b := line[:0]
	if len(part) > 0 {
		b = strconv.AppendUint(b, uint64(len(part)), 16)
		b = append(b, "\r\n"...)
		c.sock.WriteWithin(now, wait)
		if err := c.sock.Write(b, part); err != nil {
			return err
		}
		b = append(b[:0], "\r\n"...)
	}
	if last {
		b = append(b, "0\r\n"...)
		b = appendTrailers(b, x.Request.Trailers())
		b = append(b, "\r\n"...)
	}
	if len(b) == 0 {
		return nil
	}
	c.sock.WriteWithin(now, wait)
	return c.sock.Write(b, nil)
}

// Sent says that the request's body has been sent to its end. It is called by the exchange's goroutine.
func (c *ClientConn) Sent() { c.sentAll = true }

// appendChunk appends the first part of a chunked body and, when it is whole, its end.
func appendChunk(b, part []byte, whole bool, x *exchange.Exchange) []byte {
	if len(part) > 0 {
		b = strconv.AppendUint(b, uint64(len(part)), 16)
		b = append(b, "\r\n"...)
		b = append(b, part...)
		b = append(b, "\r\n"...)
	}
	if whole {
		b = append(b, "0\r\n"...)
		b = appendTrailers(b, x.Request.Trailers())
		b = append(b, "\r\n"...)
	}
	return b
}
