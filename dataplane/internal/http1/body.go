package http1

import (
	"io"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// body reads a message's body off a connection, whichever way it is framed. The zero value is a body that is over.
type body struct {
	framed bodyFraming
	left   int64 // byLength: bytes to come
	max    int64 // bytes that may come; negative: any
	chunks chunks
	over   bool
	keep   bool   // the buffer in use holds a head whose views are still needed
	pinned []byte // that buffer, once body bytes go to others
	pace   socket.Pace
}

// emptyBody is a body without bytes.
var emptyBody = body{max: -1, over: true}

type bodyFraming uint8

const (
	byNothing bodyFraming = iota
	byLength
	byChunks
	byClose
)

var errBodySlow = &refusal{Code: fault.RequestTimeout, Reason: "the body comes too slowly"}

var errBodyTooLarge = &refusal{Code: fault.RequestTooLarge, Reason: "the body is larger than the policy allows"}

// start prepares for a body. keep says that the head's views have to outlive the body's first bytes: the buffer that
// they point into is then set aside until release.
func (b *body) start(length int64, chunked, keep bool) {
	trail := b.chunks.trail
	*b = body{max: -1, keep: keep, pace: b.pace}
	b.chunks.trail = trail[:0]
	switch {
	case chunked:
		b.framed = byChunks
	case length > 0:
		b.framed, b.left = byLength, length
	case length < 0:
		b.framed = byClose
	default:
		b.over = true
	}
}

// take decodes what is buffered. It returns an empty part when more has to be received first; over tells that the body
// ended. Chunks that are there together become one part, moved in place: sent on one by one, each would be a system
// call for as little as a byte.
func (b *body) take(c *socket.Conn, trailer *exchange.Header, maxFields int) ([]byte, error) {
	var all []byte
	for !b.over {
		have := c.Buffered()
		if len(have) == 0 {
			return all, nil
		}
		var part []byte
		switch b.framed {
		case byLength:
			part = have[:min(int64(len(have)), b.left)]
			c.Consume(len(part))
			b.left -= int64(len(part))
			b.over = b.left == 0
		case byClose:
			part = have
			c.Consume(len(part))
		case byChunks:
			p, used, done, err := b.chunks.next(have)
			if err != nil {
				return nil, err
			}
			c.Consume(used)
			part = p
			if done {
				// A body whose trailers are not understood is not over: what follows may be a part of them.
				if err := b.chunks.trailers(trailer, maxFields); err != nil {
					return nil, err
				}
				b.over = true
			}
		}
		if len(part) > 0 {
			if b.max >= 0 {
				if b.max -= int64(len(part)); b.max < 0 {
					b.max = 0
					return nil, errBodyTooLarge
				}
			}
			if b.framed != byChunks {
				return part, nil
			}
			if all == nil {
				all = part
			} else {
				all = append(all, part...) // the bytes between the two are used up
			}
		}
	}
	return all, nil
}

// next waits for the next part; io.EOF comes after the last. within is the longest wait for bytes.
func (b *body) next(c *socket.Conn, trailer *exchange.Header, maxFields int, within time.Duration, deadline time.Time) ([]byte, error) {
	for {
		part, err := b.take(c, trailer, maxFields)
		if err != nil || len(part) > 0 {
			return part, err
		}
		if b.over {
			return nil, io.EOF
		}
		if err := b.fill(c, within, deadline); err != nil {
			if err == io.EOF && b.framed == byClose {
				b.over = true
				return nil, io.EOF
			}
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// fill receives more of the body, into a buffer as large as what is known to come.
func (b *body) fill(c *socket.Conn, within time.Duration, deadline time.Time) error {
	if b.keep {
		b.keep, b.pinned = false, c.Detach()
	}
	size := socket.BodySize
	if b.framed == byLength && b.left > int64(socket.BodySize.Bytes()) {
		size = socket.LargeSize
	}
	if c.Cap() != size.Bytes() || b.framed == byLength {
		c.Release() // taken again only when bytes are there
	} else {
		c.Rewind()
	}
	c.SetSize(size)
	now := time.Now()
	c.ReadWithin(now, remaining(now, within, deadline))
	if err := c.Fill(); err != nil || b.pace.Least <= 0 {
		return err
	}
	if !b.pace.Add(time.Since(now), len(c.Buffered())) {
		return errBodySlow
	}
	return nil
}

// release gives the head's buffer back.
func (b *body) release() {
	if b.pinned != nil {
		socket.Give(b.pinned)
		b.pinned = nil
	}
}

// remaining shortens a wait so that it ends with the exchange's deadline.
func remaining(now time.Time, within time.Duration, deadline time.Time) time.Duration {
	if deadline.IsZero() {
		return within
	}
	left := max(deadline.Sub(now), time.Nanosecond)
	if within <= 0 {
		return left
	}
	return min(within, left)
}
