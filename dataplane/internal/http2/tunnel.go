package http2

import (
	"errors"
	"io"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// tunnel is a stream that carries another protocol in its DATA frames (RFC 8441): END_STREAM ends a direction,
// RST_STREAM cuts both.
type tunnel struct{ f *streamFlow }

var errCutHere = errors.New("the tunnel is cut")

// Receive implements exchange.Tunnel.
func (t tunnel) Receive(within time.Duration) ([]byte, error) {
	f := t.f
	for {
		var part []byte
		var whole, told, reset bool
		var err error
		f.c.locked(func() {
			part, whole, told, err = f.take()
			reset = f.reset
			if len(part) == 0 {
				give(f.out)
				f.out = nil
			}
		})
		if told {
			f.c.flush()
		}
		switch {
		case reset:
			return nil, errReset
		case len(part) > 0:
			return part, nil
		case errors.Is(err, timedOut): // by Abort, after both sides had ended: there is nothing to wait for
			return nil, errCutHere
		case err != nil:
			return nil, err
		case whole:
			return nil, io.EOF
		}
		f.timer.Reset(max(within, time.Nanosecond))
		select {
		case <-f.readable:
			f.timer.Stop()
		case <-f.timer.C:
			return nil, timedOut
		}
	}
}

// Send implements exchange.Tunnel.
func (t tunnel) Send(part []byte, within time.Duration) error {
	t.f.patient = within
	err := t.f.sendData(part, false)
	t.f.c.flush()
	return err
}

// End implements exchange.Tunnel.
func (t tunnel) End() error {
	err := t.f.sendData(nil, true)
	t.f.c.flush()
	return err
}

// Abort implements exchange.Tunnel.
func (t tunnel) Abort() {
	f := t.f
	c := f.c
	c.locked(func() {
		if c.err == nil && !f.reset && (!f.localEnded || !f.remoteEnded) {
			f.localEnded, f.reset = true, true
			c.forget(f.id)
			c.out.pending = appendReset(c.out.buf(), f.id, codeCancel)
		}
		if f.bodyErr == nil {
			f.bodyErr = errCutHere
		}
		wake(f.readable)
		wake(f.writable)
	})
	c.flush()
}

// Tunnel implements exchange.Downstream.
func (s *serverStream) Tunnel(x *exchange.Exchange) (exchange.Tunnel, error) {
	x.Responded = true
	x.Response.Status = 200
	s.c.locked(func() { s.limit = -1 }) // that was for a body
	x.Response.Header.Del("Sec-WebSocket-Accept")
	room := socket.Take(socket.HeadSize)
	b := appendStatus(room[:0], x.Response.Status)
	b = appendFields(b, &x.Response.Header)
	b = appendField(b, "x-request-id", x.ID)
	err := s.sendList(b, false)
	socket.Give(room) // b may have grown out of it
	s.c.flush()
	return tunnel{&s.streamFlow}, err
}

// Tunnel returns what follows a response that has gone over to another protocol.
func (s *ClientStream) Tunnel() exchange.Tunnel { return tunnel{&s.streamFlow} }

var errNotExtended = &fault.Error{Code: fault.UpstreamInvalid, Reason: "the service does not take other protocols over HTTP/2"}

// extend waits until the endpoint has said whether it takes streams that carry other protocols, as it has to before one
// is opened (RFC 8441 section 3), and makes the stream one of them.
func (s *ClientStream) extend(within time.Duration) error {
	c := s.client
	c.flush() // our preface, which it may wait for
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-c.told:
	case <-timer.C:
		return timedOut
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil || c.mute != nil:
		return ErrNotProcessed
	case !c.extended:
		return errNotExtended
	}
	s.extended = true
	return nil
}
