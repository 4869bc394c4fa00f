package http1

import (
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// LimitBody implements exchange.Downstream.
func (c *conn) LimitBody(bytes int64) { c.req.body.max = bytes }

// BufferedBody implements exchange.Downstream.
func (c *conn) BufferedBody() ([]byte, bool, error) {
	if c.req.body.over {
		return nil, true, nil
	}
	part, err := c.req.body.take(c.sock, &c.req.x.Request.Trailer, c.server.limits.MaxFields)
	if err != nil {
		c.req.bodyErr = err
		return nil, false, err
	}
	c.bodyRead()
	return part, c.req.body.over, nil
}

// bodyRead notes where the request's body has been read to its end.
func (c *conn) bodyRead() {
	if c.req.body.over {
		c.req.coming.Store(false)
	}
}

// skipBody throws away what has come of a body that nobody wants: where that is all of it, the connection may go on.
func (c *conn) skipBody() {
	if c.req.bodyErr != nil && !errors.Is(c.req.bodyErr, os.ErrDeadlineExceeded) {
		return // nobody knows where it ends
	}
	c.req.body.max = -1
	for !c.req.body.over && len(c.sock.Buffered()) > 0 {
		if _, err := c.req.body.take(c.sock, &c.req.x.Request.Trailer, c.server.limits.MaxFields); err != nil {
			return
		}
	}
	c.bodyRead()
}

// NextBody implements exchange.Downstream.
func (c *conn) NextBody() ([]byte, error) {
	if c.req.bodyErr != nil {
		return nil, c.req.bodyErr
	}
	if c.req.cancelled.Load() {
		return nil, os.ErrDeadlineExceeded
	}
	part, err := c.nextPart()
	for err != nil && c.takenForIdle(err) {
		part, err = c.nextPart()
	}
	if err != nil && err != io.EOF {
		if errors.Is(err, os.ErrDeadlineExceeded) && !c.req.cancelled.Load() {
			err = &refusal{Code: fault.RequestTimeout, Reason: "the body did not come in time"}
		}
		c.req.bodyErr = err
	}
	c.bodyRead()
	return part, err
}

// takenForIdle reports whether reads have failed only since Drain interrupted them, at the very moment at which the
// connection stopped being idle. They go on then: what has begun comes to its end.
func (c *conn) takenForIdle(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) || !c.server.draining.Load() || !c.sock.Interrupted() || c.sock.Aborted() ||
		c.req.cancelled.Load() {
		return false
	}
	c.sock.ResumeReads()
	if c.req.cancelled.Load() { // meanwhile
		c.sock.Interrupt()
		return false
	}
	return true
}

// CancelBody implements exchange.Downstream.
func (c *conn) CancelBody() {
	c.req.cancelled.Store(true)
	c.sock.Interrupt()
}

// WriteInterim implements exchange.Downstream.
func (c *conn) WriteInterim(status int, header *exchange.Header, head []byte) error {
	if c.req.msg.http10 {
		return nil // RFC 9110 section 15.2: such clients do not know them
	}
	room := c.takeRoom()
	b := appendStatusLine(room[:0], status, "")
	b = appendFields(b, head, header, skipResponse)
	b = append(b, "\r\n"...)
	err := c.write(time.Now(), b, nil)
	socket.Give(room) // b may have grown out of it
	return err
}

func (c *conn) write(now time.Time, a, b []byte) error {
	if c.req.writeErr == nil {
		if c.place.state.Load() == inGoroutine { // it does not wait in a loop
			c.sock.WriteWithin(now, c.server.limits.WriteTimeout)
		}
		c.req.writeErr = c.sock.Write(a, b)
	}
	return c.req.writeErr
}

// WriteHead implements exchange.Downstream.
func (c *conn) WriteHead(x *exchange.Exchange, part []byte, last bool) error {
	res := &x.Response
	c.req.bodyless, c.req.chunked = false, false // of a response that could not be written
	if last && c.req.coming.Load() {
		c.skipBody()
	}
	// Who answers before the request has ended may not want the rest of it, and then nobody waits for it: the client is
	// to know that now.
	if c.server.leaving.Load() || c.req.coming.Load() {
		c.req.close = true
	}
	if res.Local {
		x.Tick() // it may be long since the request came
	}
	room := c.takeRoom()
	b := appendStatusLine(room[:0], res.Status, res.Reason)
	b = appendFields(b, res.Head, &res.Header, skipResponse)
	if _, dated := res.Header.Known(exchange.Date); !dated {
		b = appendDate(b)
	}
	if x.ID != "" {
		b = appendField(b, "X-Request-Id", x.ID)
	}
	b = c.appendFraming(b, x, part, last)
	switch {
	case c.req.close:
		b = append(b, "Connection: close\r\n"...)
	case c.req.msg.http10:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	b = append(b, "\r\n"...)
	if c.req.bodyless {
		part = nil
	}
	c.req.whole = last
	x.Responded = true // not before: whatever panics above leaves room for another response
	var err error
	switch {
	case c.req.chunked:
		err = c.writeChunk(x, x.Now, b, part, last)
	case len(b)+len(part) > len(room): // or b has grown out of it
		err = c.write(x.Now, b, part)
	case last && !res.Local && c.place.state.Load() != inGoroutine:
		c.req.kept = append(b, part...)
		return nil
	default:
		err = c.write(x.Now, append(b, part...), nil)
	}
	c.giveRoom(room)
	return err
}

// appendFraming says how long the body is (RFC 9112 section 6).
func (c *conn) appendFraming(b []byte, x *exchange.Exchange, part []byte, last bool) []byte {
	res := &x.Response
	length := res.ContentLength
	switch {
	case res.Status == 204:
		c.req.bodyless = true
		return b
	case x.Request.Method == "HEAD" || res.Status == 304:
		// The length that a GET would have had, if it is known.
		c.req.bodyless = true
		if v, ok := res.Header.Known(exchange.ContentLength); ok && !res.Local {
			return appendField(b, "Content-Length", v)
		} else if !res.Local {
			return b
		}
	case length < 0 && last && res.Trailers().Len() == 0:
		length = int64(len(part))
	case length < 0 && c.req.msg.http10:
		c.req.close = true
		return b
	case length < 0:
		c.req.chunked = true
		return append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, length, 10)
	return append(b, "\r\n"...)
}

// WriteBody implements exchange.Downstream.
func (c *conn) WriteBody(x *exchange.Exchange, part []byte, last bool) error {
	switch {
	case c.req.bodyless:
		return c.req.writeErr
	case c.req.chunked:
		b := socket.Take(socket.HeadSize)[:0]
		err := c.writeChunk(x, time.Now(), b, part, last)
		socket.Give(b)
		return err
	case len(part) == 0:
		return c.req.writeErr
	}
	return c.write(time.Now(), part, nil)
}

// takesRaw reports whether the rest of the response's body may be written past WriteBody.
func (c *conn) takesRaw() bool { return !c.req.chunked && !c.req.bodyless && c.req.writeErr == nil }

// writeChunk appends to b, and sends, a chunk and, at the end, the last chunk with the trailers. The CRLF after a chunk
// goes with what follows it, so that a chunk takes one system call.
func (c *conn) writeChunk(x *exchange.Exchange, now time.Time, b, part []byte, last bool) error {
	if len(part) > 0 {
		if c.req.begun {
			b = append(b, "\r\n"...)
		}
		c.req.begun = true
		b = strconv.AppendUint(b, uint64(len(part)), 16)
		b = append(b, "\r\n"...)
		if len(b)+len(part) <= cap(b) {
			b = append(b, part...)
		} else {
			if err := c.write(now, b, part); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	if !last {
		if len(b) > 0 {
			return c.write(now, b, nil)
		}
		return c.req.writeErr
	}
	if c.req.begun {
		b = append(b, "\r\n"...)
	}
	b = append(b, "0\r\n"...)
	b = appendTrailers(b, x.Response.Trailers())
	b = append(b, "\r\n"...)
	return c.write(now, b, nil)
}

// Abort implements exchange.Downstream.
func (c *conn) Abort() { c.req.cut = true }
