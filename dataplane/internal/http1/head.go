package http1

import (
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// readHead returns a whole head, waiting for what is not buffered.
func (c *conn) readHead() ([]byte, error) {
	c.skipEmptyLine()
	have := c.sock.Buffered()
	n := c.headLength
	c.headLength = 0
	if n == 0 {
		n = headEnd(have, 0)
	}
	if n > 0 && n <= c.server.limits.MaxHeadBytes {
		return have[:n], nil
	}
	return c.readRest()
}

// skipEmptyLine takes one empty line before the request line away, as a robust server does (RFC 9112 section 2.2).
func (c *conn) skipEmptyLine() {
	have := c.sock.Buffered()
	if len(have) >= 2 && have[0] == '\r' && have[1] == '\n' && !c.blank {
		c.sock.Consume(2)
		c.blank, c.headLength = true, 0
	}
}

// besideTarget is the most that a request line has besides path and query: the method, the scheme and authority of the
// absolute form, and the version.
const besideTarget = codec.MaxMethodLength + len(" https:// HTTP/1.1\r\n") + codec.MaxHostLength

// readRest goes on with a head that did not come at once.
func (c *conn) readRest() ([]byte, error) {
	lim := &c.server.limits
	c.sock.Compact()
	now := time.Now()
	until := now.Add(lim.HeadTimeout)
	for {
		c.skipEmptyLine()
		have := c.sock.Buffered()
		if n := headEnd(have, 0); n > 0 {
			if n > lim.MaxHeadBytes {
				return nil, &refusal{Code: fault.HeadersTooLarge, Reason: "the head is larger than " + strconv.Itoa(lim.MaxHeadBytes) + " bytes"}
			}
			return have[:n], nil
		}
		if most := lim.MaxTargetBytes + besideTarget; len(have) > most && indexByte(view(have[:most]), '\n') < 0 {
			return nil, overlong(have, lim.MaxTargetBytes)
		}
		if len(have) >= lim.MaxHeadBytes {
			return nil, &refusal{Code: fault.HeadersTooLarge, Reason: "the head is larger than " + strconv.Itoa(lim.MaxHeadBytes) + " bytes"}
		}
		if c.sock.Cap() > 0 && c.sock.Room() == 0 {
			size := socket.BodySize
			if c.sock.Cap() >= size.Bytes() {
				size = socket.LargeSize
			}
			socket.Give(c.sock.Grow(size))
		}
		now = time.Now()
		c.sock.ReadWithin(now, max(until.Sub(now), time.Nanosecond))
		if err := c.sock.Fill(); err != nil {
			if c.takenForIdle(err) {
				continue
			}
			if errors.Is(err, os.ErrDeadlineExceeded) && !c.server.draining.Load() {
				return nil, &refusal{Code: fault.RequestTimeout, Reason: "the head did not come in time"}
			}
			return nil, io.EOF
		}
	}
}

// refuseHead answers what could not be read as a head, where somebody waits for an answer.
func (c *conn) refuseHead(err error) {
	var r *refusal
	if !errors.As(err, &r) {
		return
	}
	x := takeExchange()
	c.begin(x)
	c.refuse(x, r)
	c.server.handler.Serve(x)
	giveExchange(x)
}

// refuse sets the response to what was not understood, after which the connection ends.
func (c *conn) refuse(x *exchange.Exchange, r *refusal) {
	c.req.close, c.req.refused = true, true
	x.Request.Header.Reset() // perhaps only a part of it
	x.SetID(exchange.OwnRequestID)
	x.Fail(r.Code, r.Reason)
}

// begin makes the exchange this connection's.
func (c *conn) begin(x *exchange.Exchange) {
	c.req.reset(x) // first, so that whoever recovers from a panic knows of it
	c.served = true
	c.turns.Add(1)
	x.From(c.peer)
	x.Down, x.Shard = c, c.shard
	if x.Start = c.place.arrival.at; x.Start.IsZero() {
		x.Start = time.Now()
	}
	c.place.arrival.at = time.Time{}
	x.Now = x.Start
}

// parse reads the head into the exchange and prepares for its body.
func (c *conn) parse(x *exchange.Exchange, head []byte) *refusal {
	c.blank = false
	m, err := parseRequest(head, x, c.server.limits.MaxFields)
	c.sock.Consume(len(head))
	if most := c.server.limits.MaxTargetBytes; err == nil && x.Request.TargetBytes() > most {
		err = codec.TargetTooLong(most)
	}
	if err != nil {
		return err
	}
	c.req.msg = m
	c.req.close = !m.persistent()
	c.req.body.pace = socket.Pace{Least: c.server.limits.MinRate, Over: c.server.limits.BodyTimeout}
	c.req.body.start(x.Request.ContentLength, m.chunked, true)
	if !c.req.body.over {
		c.req.coming.Store(true)
	}
	return nil
}
