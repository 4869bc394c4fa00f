package http2

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// stream is one request with its response; it implements exchange.Downstream. Streams are used again.
type stream struct {
	exchange.Exchange

	c  *conn
	id uint32

	// The connection's mutex protects these.
	remoteEnded bool   // the client has sent everything
	localEnded  bool   // we have
	reset       bool   // either side has broken off
	sendWindow  int64  // may go below zero (RFC 9113 section 6.9.2)
	recvWindow  int64  // what the client may still send
	declared    int64  // what Content-Length leaves to come; -1: not said
	in          []byte // the part of the body that waits
	bodyErr     error  // why no more of the body comes
	limit       int64  // bytes of body that may come; negative: any

	out       []byte // the part of the body that NextBody gave out
	unacked   int    // consumed, and not yet granted anew
	cancelled atomic.Bool
	bodyless  bool
	begun     bool // a final response's head was sent
	readable  chan struct{}
	writable  chan struct{}
	timer     *time.Timer // of the reading goroutine
	patience  *time.Timer // of the writing goroutine
	runFn     func()
}

func newStream() *stream {
	s := &stream{readable: make(chan struct{}, 1), writable: make(chan struct{}, 1), timer: time.NewTimer(time.Hour), patience: time.NewTimer(time.Hour)}
	s.timer.Stop()
	s.patience.Stop()
	s.runFn = s.run
	return s
}

// open makes the stream that of a request that has just come.
func (s *stream) open(c *conn, id uint32) {
	s.c, s.id = c, id
	s.remoteEnded, s.localEnded, s.reset = false, false, false
	s.sendWindow, s.recvWindow, s.declared = c.peerWindow, streamWindow, -1
	s.bodyErr, s.limit = nil, -1
	s.unacked, s.bodyless, s.begun = 0, false, false
	s.cancelled.Store(false)
	drain(s.readable)
	drain(s.writable)
}

func drain(ch chan struct{}) {
	select {
	case <-ch:
	default:
	}
}

// close gives everything back that the stream holds. Its exchange has ended.
func (s *stream) close() {
	s.Exchange.Reset()
	give(s.in)
	give(s.out)
	s.in, s.out, s.c = nil, nil, nil
}

var (
	errReset   = errors.New("the client has reset the stream")
	errStalled = errors.New("the client takes nothing of the response")
	errCut     = errors.New("the node ends the connection")
)

var errBodyTooLarge = &fault.Error{Code: fault.RequestTooLarge, Reason: "the body is larger than the policy allows"}

// LimitBody implements exchange.Downstream.
func (s *stream) LimitBody(bytes int64) { s.limit = bytes }

// BufferedBody implements exchange.Downstream.
func (s *stream) BufferedBody() ([]byte, bool, error) {
	s.c.mu.Lock()
	part, whole, err := s.take()
	s.c.mu.Unlock()
	s.grant(len(part))
	return part, whole && err == nil, err
}

// take takes what waits of the body. The mutex is held.
func (s *stream) take() (part []byte, whole bool, err error) {
	if len(s.in) == 0 {
		return nil, s.remoteEnded && s.bodyErr == nil, s.bodyErr
	}
	give(s.out)
	s.out, s.in = s.in, nil
	if s.limit >= 0 {
		if s.limit -= int64(len(s.out)); s.limit < 0 {
			s.limit = 0
			s.bodyErr = errBodyTooLarge
			return nil, false, s.bodyErr
		}
	}
	return s.out, s.remoteEnded && s.bodyErr == nil, nil
}

// grant lets the client send as much as was consumed.
func (s *stream) grant(n int) {
	if n == 0 {
		return
	}
	c := s.c
	c.mu.Lock()
	s.unacked += n
	c.unacked += n
	send := false
	if s.unacked >= streamWindow/2 && !s.remoteEnded && !s.reset {
		c.out.pending = appendWindowUpdate(c.out.buf(), s.id, uint32(s.unacked))
		s.recvWindow += int64(s.unacked)
		s.unacked, send = 0, true
	}
	send = c.grantConn() || send
	c.mu.Unlock()
	if send {
		c.flush()
	}
}

// NextBody implements exchange.Downstream.
func (s *stream) NextBody() ([]byte, error) {
	wait := s.c.server.limits.BodyTimeout
	for {
		if s.cancelled.Load() {
			return nil, os.ErrDeadlineExceeded
		}
		s.c.mu.Lock()
		part, whole, err := s.take()
		s.c.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case len(part) > 0:
			s.grant(len(part))
			return part, nil
		case whole:
			return nil, io.EOF
		}
		if !s.Deadline.IsZero() {
			wait = min(wait, max(time.Until(s.Deadline), time.Nanosecond))
		}
		s.timer.Reset(wait)
		select {
		case <-s.readable:
			s.timer.Stop()
		case <-s.timer.C:
			return nil, &fault.Error{Code: fault.RequestTimeout, Reason: "the body did not come in time"}
		}
	}
}

// CancelBody implements exchange.Downstream.
func (s *stream) CancelBody() {
	s.cancelled.Store(true)
	wake(s.readable)
}

// WriteInterim implements exchange.Downstream.
func (s *stream) WriteInterim(status int, header *exchange.Header, _ []byte) error {
	b := socket.Take(socket.HeadSize)[:0]
	b = appendFields(appendStatus(b, status), header)
	err := s.sendList(b, false)
	socket.Give(b)
	s.c.flush()
	return err
}

// WriteHead implements exchange.Downstream.
func (s *stream) WriteHead(x *exchange.Exchange, part []byte, last bool) error {
	b := socket.Take(socket.HeadSize)[:0]
	b, s.bodyless = appendResponse(b, x, part, last)
	s.begun = true
	trailers := last && x.Response.Trailer.Len() > 0
	end := last && !trailers && len(part) == 0 || s.bodyless
	err := s.sendList(b, end)
	socket.Give(b)
	if err == nil && !end {
		err = s.sendBody(x, part, last)
	}
	s.c.flush()
	return err
}

// WriteBody implements exchange.Downstream.
func (s *stream) WriteBody(x *exchange.Exchange, part []byte, last bool) error {
	if s.bodyless {
		return nil
	}
	err := s.sendBody(x, part, last)
	s.c.flush()
	return err
}

func (s *stream) sendBody(x *exchange.Exchange, part []byte, last bool) error {
	trailers := last && x.Response.Trailer.Len() > 0
	if len(part) > 0 || last && !trailers {
		if err := s.sendData(part, last && !trailers); err != nil {
			return err
		}
	}
	if !trailers {
		return nil
	}
	b := appendFields(socket.Take(socket.HeadSize)[:0], &x.Response.Trailer)
	err := s.sendList(b, true)
	socket.Give(b)
	return err
}

// sendList appends a header list as HEADERS and, where it is long, CONTINUATION frames.
func (s *stream) sendList(block []byte, end bool) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.broken(); err != nil {
		return err
	}
	flags := uint8(0)
	if end {
		flags = flagEndStream
		s.localEnded = true
	}
	b := c.out.buf()
	kind := frameHeaders
	if !c.tableSized {
		// Our encoder keeps no table; saying so once satisfies whatever limit the client sets (RFC 7541 section 4.2).
		c.tableSized = true
		block = append([]byte{0x20}, block...)
	}
	for {
		n := min(len(block), maxFrameBytes)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		b = append(appendFrameHead(b, n, kind, flags, s.id), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			break
		}
		kind, flags = frameContinuation, 0
	}
	c.out.pending = b
	return nil
}

// broken returns why nothing more can be sent. The mutex is held.
func (s *stream) broken() error {
	if s.reset {
		return errReset
	}
	return s.c.err
}

// sendData appends DATA frames as the client's windows, and the room for what is pending, allow.
func (s *stream) sendData(part []byte, end bool) error {
	c := s.c
	for {
		c.mu.Lock()
		if err := s.broken(); err != nil {
			c.mu.Unlock()
			return err
		}
		for {
			n := int(min(int64(len(part)), s.sendWindow, c.sendWindow, maxFrameBytes))
			if n <= 0 && len(part) > 0 || len(c.out.pending) >= maxPending {
				break
			}
			flags := uint8(0)
			if end && n == len(part) {
				flags = flagEndStream
				s.localEnded = true
			}
			c.out.pending = append(appendFrameHead(c.out.buf(), n, frameData, flags, s.id), part[:n]...)
			s.sendWindow -= int64(n)
			c.sendWindow -= int64(n)
			c.earn(4)
			if part = part[n:]; len(part) == 0 {
				c.mu.Unlock()
				return nil
			}
		}
		c.out.waiting = append(c.out.waiting, s)
		c.mu.Unlock()
		c.flush()
		if err := s.waitToWrite(part); err != nil {
			return err
		}
	}
}

// waitToWrite waits until there may be a window or room. A client that grants nothing for too long loses the stream.
func (s *stream) waitToWrite(part []byte) error {
	c := s.c
	c.mu.Lock()
	ready := s.broken() != nil || len(c.out.pending) < maxPending && (len(part) == 0 || s.sendWindow > 0 && c.sendWindow > 0)
	c.mu.Unlock()
	if ready {
		return nil
	}
	s.patience.Reset(c.server.limits.WriteTimeout)
	select {
	case <-s.writable:
		s.patience.Stop()
		return nil
	case <-s.patience.C:
		return errStalled
	}
}

// Abort implements exchange.Downstream.
func (s *stream) Abort() {
	c := s.c
	c.mu.Lock()
	if s.broken() == nil && !s.localEnded {
		s.localEnded, s.reset = true, true
		c.forget(s.id)
		c.out.pending = appendReset(c.out.buf(), s.id, codeInternal)
	}
	c.mu.Unlock()
	c.flush()
}
