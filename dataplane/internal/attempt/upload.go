package attempt

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/shared/fault"
)

// upload is a request body on its way, in a goroutine of its own: the response may come before it is over.
type upload struct {
	done  chan struct{}
	whole bool          // the client has sent all of it before it began
	read  atomic.Bool   // the client has sent all of it
	waits atomic.Bool   // for the client, which the endpoint has to wait for as well
	begun bool          // something of it has come, or does without the endpoint's asking for it
	sent  bool          // the endpoint was sent all of it; valid when done is closed
	err   error         // the client's fault; valid when done is closed
	kept  *kept         // what was read of the body; nil: nobody wants it again
	state atomic.Uint32 // underWay, failed, answered or stopped: which came first
}

const (
	underWay uint32 = iota
	failed          // the upload has broken the attempt off itself
	answered        // the response has begun
	stopped         // nobody wants it any more
)

// begin starts sending the rest of the request's body: what is left of its first part, and what follows.
func (a *Attempts) begin(rest []byte) {
	u := &upload{done: make(chan struct{}), whole: a.Request.Whole, kept: a.keep()}
	a.upload = u
	panics, conn, x, timeout := a.Panics, a.Conn, a.Exchange, a.Timeout
	u.begun = len(a.Request.Bytes) > 0 || !x.Request.Expects100
	left := x.Request.ContentLength - int64(len(a.Request.Bytes))
	from := x.Down // what stands before it later is for the response
	go func() {
		defer close(u.done)
		defer func() {
			if v := recover(); v != nil {
				panics.Caught("the upload", x.Route, v)
				u.err = &fault.Error{Code: fault.Internal, Reason: "the request's body could not be passed on"}
				u.state.CompareAndSwap(underWay, failed)
				conn.Abort()
			}
		}()
		u.err = u.sendBody(conn, from, x, timeout, rest, left)
		if u.err != nil && (u.state.CompareAndSwap(underWay, failed) || x.RPC != exchange.NoRPC) {
			// The endpoint must not take what came for the whole, and the exchange must not wait for its answer. A
			// response that has begun comes to its end, but for a call's, which has a place for what is wrong.
			conn.Abort()
		}
	}()
}

// uploading reports whether the request's body is still coming.
func (a *Attempt) uploading() bool {
	if a.upload == nil {
		return false
	}
	select {
	case <-a.upload.done:
		return false
	default:
		return true
	}
}

// awaitsClient reports whether all that has come of the request's body was sent, so that an endpoint which has not
// answered can't be blamed for that. A call of gRPC may be answered before its client sends more.
func (a *Attempts) awaitsClient() bool {
	return a.upload != nil && a.upload.waits.Load() && a.Exchange.RPC == exchange.NoRPC
}

// answered says that the endpoint has answered: if the upload fails from now on, the answer comes to its end
// nevertheless. It returns why it has failed before.
func (u *upload) answered() error {
	if u.state.CompareAndSwap(underWay, answered) {
		return nil
	}
	<-u.done
	return u.err
}

var errClientGone = errors.New("the client broke off")

// sendBody sends what is left of the body: rest, and what has not been read yet, left bytes where that is known.
func (u *upload) sendBody(
	conn upstream.Conn, from exchange.Downstream, x *exchange.Exchange, timeout time.Duration, rest []byte, left int64,
) error {
	u.read.Store(u.whole)
	if len(rest) > 0 || u.whole {
		err := conn.SendBody(x, rest, u.whole, timeout)
		if u.sent = u.whole && err == nil; u.whole {
			return nil
		}
		if err != nil {
			u.discard(from, x, left)
			return nil
		}
	}
	for {
		part, err := u.next(from)
		if left -= int64(len(part)); err == io.EOF || err == nil && left == 0 {
			u.read.Store(true)
		}
		if err == io.EOF {
			u.kept.end()
			u.sent = conn.SendBody(x, nil, true, timeout) == nil
			return nil
		}
		if err != nil {
			var own *fault.Error
			if errors.As(err, &own) {
				return own
			}
			return errClientGone
		}
		u.kept.add(part)
		if conn.SendBody(x, part, false, timeout) != nil {
			u.discard(from, x, left)
			return nil // what the endpoint has to say, if anything, is in its response
		}
	}
}

// next waits for the next part.
func (u *upload) next(from exchange.Downstream) ([]byte, error) {
	u.waits.Store(u.begun)
	part, err := from.NextBody()
	u.waits.Store(false)
	u.begun = u.begun || len(part) > 0
	return part, err
}

// discard reads on where the endpoint wants no more: another one may be sent all of it, and over HTTP/1 there are
// clients that do not read the response before they have written the whole request.
func (u *upload) discard(from exchange.Downstream, x *exchange.Exchange, left int64) {
	patient := x.Request.Version != exchange.HTTP2
	for u.kept.wants() || patient && left != 0 {
		part, err := from.NextBody()
		if err != nil {
			if err == io.EOF {
				u.kept.end()
			}
			u.read.Store(err == io.EOF)
			return
		}
		u.kept.add(part)
		left -= int64(len(part))
	}
	if patient {
		u.read.Store(true)
	}
}

// lastPart is how long a complete response waits for the end of an upload whose last part is on its way.
const lastPart = 10 * time.Millisecond

// settle ends the upload, if there is one, since the response is complete.
func (a *Attempt) settle() {
	u := a.upload
	if u == nil {
		return
	}
	// The endpoint may have answered before this goroutine's other half could say that it was done.
	if u.over(0) || u.read.Load() && u.over(lastPart) {
		if u.sent {
			a.Conn.Sent()
		}
		a.upload = nil
		return
	}
	_ = a.stopUpload()
}

// over reports whether the upload has ended, after a wait at the most.
func (u *upload) over(wait time.Duration) bool {
	select {
	case <-u.done:
		return true
	default:
		if wait <= 0 {
			return false
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-u.done:
		return true
	case <-timer.C:
		return false
	}
}

// stopUpload ends an upload and returns why it failed, if it was the client's fault and has broken the attempt off.
func (a *Attempt) stopUpload() error {
	u := a.upload
	if u == nil {
		return nil
	}
	a.upload = nil
	if !u.over(0) {
		u.state.CompareAndSwap(underWay, stopped)
		if !u.whole { // even where all bytes have come: the end of the stream, or trailers, may not
			a.x.Down.CancelBody()
		}
		a.Conn.Abort()
		<-u.done
	}
	if u.state.Load() != failed {
		return nil
	}
	return u.err
}
