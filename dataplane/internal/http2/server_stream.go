package http2

import (
	"io"
	"os"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// serverStream is one request of a client's with its response; it implements exchange.Downstream. Streams are used
// again.
type serverStream struct {
	exchange.Exchange
	streamFlow

	conn      *serverConn
	cancelled atomic.Bool
	bodyless  bool
	gives     socket.Pace // how fast the client sends the body
}

func newServerStream() *serverStream {
	s := &serverStream{}
	s.streamFlow.init()
	return s
}

// open makes the stream that of a request that has just come.
func (s *serverStream) open(c *serverConn, id uint32) {
	limits := &c.server.limits
	s.streamFlow.open(&c.connection, id, &s.Request.Trailer, limits.WriteTimeout)
	s.takes = socket.Pace{Least: limits.MinRate, Over: limits.WriteTimeout}
	s.gives = socket.Pace{Least: limits.MinRate, Over: limits.BodyTimeout}
	s.conn, s.bodyless = c, false
	s.cancelled.Store(false)
}

// close gives everything back that the stream holds. Its exchange has ended.
func (s *serverStream) close() {
	s.Exchange.Reset()
	s.streamFlow.close()
	s.conn = nil
}

// LimitBody implements exchange.Downstream.
func (s *serverStream) LimitBody(bytes int64) { s.limit = bytes }

// BufferedBody implements exchange.Downstream.
func (s *serverStream) BufferedBody() ([]byte, bool, error) {
	if s.Request.Upgrade != "" {
		return nil, true, nil
	}
	part, whole, err := s.pull()
	return part, whole && err == nil, err
}

// NextBody implements exchange.Downstream.
func (s *serverStream) NextBody() ([]byte, error) {
	within := s.conn.server.limits.BodyTimeout
	var begun time.Time // since when it is waited
	counted := 0        // bytes of the next part that have come by then
	for {
		if s.cancelled.Load() {
			return nil, os.ErrDeadlineExceeded
		}
		part, whole, err := s.pull()
		switch {
		case err != nil:
			return nil, err
		case len(part) > 0:
			waited := time.Duration(0)
			if !begun.IsZero() {
				waited = time.Since(begun)
			}
			return part, s.paced(waited, max(len(part)-counted, 0))
		case whole:
			return nil, io.EOF
		}
		now := time.Now()
		if begun.IsZero() {
			begun = now
		}
		wait := within - now.Sub(begun) // whatever comes that is no body does not count
		if s.StreamIdle() > 0 {         // it may come as late as the response does
			wait = s.StreamLeft()
		} else if left := s.PauseLeft(within); left > wait {
			wait = left
		}
		late := false
		if end := s.Ends(); !end.IsZero() {
			wait, late = min(wait, end.Sub(now)), !now.Before(end)
		}
		if wait <= 0 && !late { // something may have come that is no whole frame
			if n, since := s.conn.partial.of(s.id); n > counted {
				waited := max(s.conn.born.Add(since).Sub(begun), 0)
				if err := s.paced(waited, n-counted); err != nil {
					return nil, err
				}
				counted, begun = n, begun.Add(waited)
				continue
			}
		}
		if wait <= 0 {
			return nil, &fault.Error{Code: fault.RequestTimeout, Reason: "the body did not come in time"}
		}
		s.timer.Reset(wait)
		select {
		case <-s.readable:
			s.timer.Stop()
		case <-s.timer.C:
		}
	}
}

var errBodySlow = &fault.Error{Code: fault.RequestTimeout, Reason: "the body comes too slowly"}

// paced notes that n bytes of the body have come, which were waited for so long, and returns an error where that is
// too slow.
func (s *serverStream) paced(waited time.Duration, n int) error {
	if s.StreamIdle() > 0 || s.Both() { // nobody owes anything
		s.Moved()
		return nil
	}
	if !s.gives.Add(waited, n) {
		return errBodySlow
	}
	return nil
}

// CancelBody implements exchange.Downstream.
func (s *serverStream) CancelBody() {
	s.cancelled.Store(true)
	wake(s.readable)
}

// WriteInterim implements exchange.Downstream.
func (s *serverStream) WriteInterim(status int, header *exchange.Header, _ []byte) error {
	room := socket.Take(socket.HeadSize)
	err := s.sendList(appendFields(appendStatus(room[:0], status), header), false)
	socket.Give(room) // the list may have grown out of it
	s.c.flush()
	return err
}

// WriteHead implements exchange.Downstream.
func (s *serverStream) WriteHead(x *exchange.Exchange, part []byte, last bool) error {
	room := socket.Take(socket.HeadSize)
	var b []byte
	b, s.bodyless = appendResponse(room[:0], x, part, last)
	x.Responded = true // not before: whatever panics above leaves room for another response
	trailers := last && x.Response.Trailers().Len() > 0
	end := last && !trailers && len(part) == 0 || s.bodyless
	err := s.sendList(b, end)
	socket.Give(room) // b may have grown out of it
	if err == nil && !end {
		err = s.sendBody(part, last, x.Response.Trailers)
	}
	s.c.flush()
	return err
}

// WriteBody implements exchange.Downstream.
func (s *serverStream) WriteBody(x *exchange.Exchange, part []byte, last bool) error {
	if s.bodyless {
		return nil
	}
	err := s.sendBody(part, last, x.Response.Trailers)
	s.c.flush()
	return err
}

// Watch implements exchange.Downstream.
func (s *serverStream) Watch(a exchange.Aborter) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.watch = a
	if a != nil && s.broken() != nil {
		a.Abort()
	}
}

// Gone implements exchange.Downstream.
func (s *serverStream) Gone() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.broken() != nil
}

// Abort implements exchange.Downstream.
func (s *serverStream) Abort() {
	c := s.c
	c.locked(func() {
		if s.broken() == nil && !s.localEnded {
			s.localEnded, s.reset = true, true
			c.forget(s.id)
			c.out.pending = appendReset(c.out.buf(), s.id, codeInternal)
		}
	})
	c.flush()
}
