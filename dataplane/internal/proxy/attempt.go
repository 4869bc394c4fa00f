package proxy

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/errorpage"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/shared/fault"
)

// maxConnectAttempts is how many endpoints are tried when connections can't be opened. Nothing has been sent then, so any request
// may go elsewhere.
const maxConnectAttempts = 3

// attempt is one exchange with an endpoint, and, where that is allowed, another one instead.
type attempt struct {
	x        *exchange.Exchange
	service  *upstream.Service
	timeout  time.Duration
	pages    *errorpage.Pages
	endpoint *upstream.Endpoint
	conn     upstream.Conn
	answered time.Time
	tried    int          // how many connections have been asked for
	used     bool         // conn has carried another exchange before
	fresh    bool         // the next connection has to be a new one
	watched  bool         // conn is broken off when the client goes away
	streams  bool         // the response goes on for as long as something moves
	both     bool         // it has begun while the request's body is still coming
	form     exchange.RPC // of the response that the client is being sent

	request  part // what came of the request's body with its head
	response part // what came of the response's body with its head
	upload   *upload
}

// part is the first part of a body.
type part struct {
	bytes []byte
	whole bool // it is all of it
	err   error
	taken bool
}

// upload is a request body on its way, in a goroutine of its own: the response may come before it is over.
type upload struct {
	done  chan struct{}
	whole bool          // the client has sent all of it before it began
	read  atomic.Bool   // the client has sent all of it
	sent  bool          // the endpoint was sent all of it; valid when done is closed
	err   error         // the client's fault; valid when done is closed
	state atomic.Uint32 // underWay, failed, answered or stopped: which came first
}

const (
	underWay uint32 = iota
	failed          // the upload has broken the attempt off itself
	answered        // the response has begun
	stopped         // nobody wants it any more
)

// send gets the response's head, and reports false when x has a response of the gateway's own instead.
func (a *attempt) send() bool {
	first := a.requestPart()
	if first.err != nil {
		a.fail(first.err)
		return false
	}
	for a.connect() {
		a.watch()
		a.tellTime()
		left, started, err := a.conn.Send(a.x, first.bytes, first.whole, a.timeout)
		if err == nil && (!first.whole || len(left) > 0) {
			a.begin(left)
			if started, err = a.conn.Answer(a.x, a.timeout); err == nil {
				err = a.upload.answered()
			}
		}
		if answered, again := a.outcome(started, err); !again {
			return answered
		}
	}
	return false
}

func (a *attempt) requestPart() *part {
	p := &a.request
	if !p.taken {
		p.taken = true
		p.bytes, p.whole, p.err = a.x.Down.BufferedBody()
	}
	return p
}

func (a *attempt) responsePart() *part {
	p := &a.response
	if !p.taken {
		p.taken = true
		p.bytes, p.whole, p.err = a.conn.BufferedBody(a.x, a.timeout)
	}
	return p
}

// choose chooses an endpoint, if possible another one than before, and reports whether there is one.
func (a *attempt) choose() bool {
	if a.endpoint = a.service.Pick(a.endpoint); a.endpoint == nil {
		return false
	}
	a.x.Endpoint = a.endpoint.Address()
	if a.x.Forward.OwnHost {
		a.x.Forward.Host = a.endpoint.Authority()
	}
	return true
}

// connect gets a connection, and reports false when x has a response of the gateway's own instead.
func (a *attempt) connect() bool {
	for {
		if chosen := a.endpoint != nil && a.tried == 0; !chosen && !a.choose() {
			a.x.Fail(fault.NoHealthyEndpoints, "the service has no healthy endpoint")
			return false
		}
		a.tried++
		a.endpoint.State.Add(1)
		conn, err := a.acquire(a.fresh)
		if err == nil {
			a.conn, a.used = conn, conn.Used()
			return true
		}
		a.endpoint.State.Add(-1)
		late := !a.x.Deadline.IsZero() && !time.Now().Before(a.x.Deadline)
		if a.tried < maxConnectAttempts && !upstream.Overloaded(err) && !late && !a.x.Down.Gone() {
			a.x.Tick() // every endpoint has its time
			continue
		}
		a.endpoint = nil
		a.fail(err)
		return false
	}
}

// watch makes the connection be broken off when the client goes away.
func (a *attempt) watch() {
	a.watched = true
	a.x.Down.Watch(a.conn)
}

// outcome judges what sending the request came to. Where it was in vain, the connection is given back, and either the request is to be sent again, or
// x has a response of the gateway's own.
func (a *attempt) outcome(started bool, err error) (answered, again bool) {
	if err == nil {
		a.answered = a.x.Tick()
		return true, false
	}
	if uploadErr := a.stopUpload(); uploadErr != nil {
		err = uploadErr
	}
	a.release()
	// An endpoint may close an idle connection just when a request is sent on it. Nothing of a response came, so a request
	// that may be repeated is sent again, on a new connection (RFC 9110 section 9.2.2). One that the endpoint has not looked at is sent again whatever
	// it is. Whatever else an endpoint does with a request it does knowing it: that is its answer.
	again = a.used && !a.fresh && upstream.Stale(err) && repeatable(a.x.Request.Method) ||
		upstream.NotProcessed(err) && a.tried < maxConnectAttempts
	if a.request.whole && !started && again {
		// The connection of one that was not looked at may be about to end, and carry the next attempt into its end: that one is sent again too.
		a.fresh = a.fresh || !errors.Is(err, upstream.ErrNotProcessed)
		a.x.Tick()
		return false, true
	}
	a.fail(err)
	return false, false
}

// repeatable reports whether a method is idempotent (RFC 9110 section 9.2.2).
func repeatable(method string) bool {
	switch method {
	case "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// fail makes an error the response.
func (a *attempt) fail(err error) {
	var own *fault.Error
	switch {
	case a.x.Down.Gone():
		a.x.Fail(fault.ClientClosed, "the client broke off")
	case errors.As(err, &own):
		a.x.Fail(own.Code, own.Reason)
	case errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err), a.late():
		a.x.Fail(fault.UpstreamTimeout, "the service did not answer in time")
	case errors.Is(err, errClientGone):
		a.x.Fail(fault.BadRequest, "the request's body broke off")
		a.x.Response.Code = fault.ClientClosed
	default:
		a.x.Fail(fault.UpstreamUnavailable, "the service can't be reached or broke off")
	}
}

// late reports whether the deadline of a gRPC call is over. The service was told of it and resets the stream by itself then, perhaps before the
// timer here has run off: that is no service that broke off.
func (a *attempt) late() bool {
	return a.x.RPC != exchange.NoRPC && !a.x.Deadline.IsZero() && !time.Now().Before(a.x.Deadline)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// begin starts sending the rest of the request's body: what is left of its first part, and what follows.
func (a *attempt) begin(rest []byte) {
	u := &upload{done: make(chan struct{}), whole: a.request.whole}
	a.upload = u
	conn, x, timeout, left := a.conn, a.x, a.timeout, a.x.Request.ContentLength-int64(len(a.request.bytes))
	from := x.Down // what stands before it later is for the response
	go func() {
		defer close(u.done)
		u.err = u.sendBody(conn, from, x, timeout, rest, left)
		if u.err != nil && (u.state.CompareAndSwap(underWay, failed) || x.RPC != exchange.NoRPC) {
			// The endpoint must not take what came for the whole, and the exchange must not wait for its answer. A
			// response that has begun comes to its end, but for a call's, which has a place for what is wrong.
			conn.Abort()
		}
	}()
}

// uploading reports whether the request's body is still coming.
func (a *attempt) uploading() bool {
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

// answered says that the endpoint has answered: if the upload fails from now on, the answer comes to its end nevertheless. It returns why it has
// failed before.
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
		part, err := from.NextBody()
		if left -= int64(len(part)); err == io.EOF || err == nil && left == 0 {
			u.read.Store(true)
		}
		if err == io.EOF {
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
		if conn.SendBody(x, part, false, timeout) != nil {
			u.discard(from, x, left)
			return nil // what the endpoint has to say, if anything, is in its response
		}
	}
}

// discard reads on where the endpoint wants no more: over HTTP/1 there are clients that do not read the response before they have written the whole request.
func (u *upload) discard(from exchange.Downstream, x *exchange.Exchange, left int64) {
	if x.Request.Version == exchange.HTTP2 {
		return
	}
	for left != 0 {
		part, err := from.NextBody()
		if err != nil {
			u.read.Store(err == io.EOF)
			return
		}
		left -= int64(len(part))
	}
	u.read.Store(true)
}

// lastPart is how long a complete response waits for the end of an upload whose last part is on its way.
const lastPart = 10 * time.Millisecond

// settle ends the upload, if there is one, since the response is complete.
func (a *attempt) settle() {
	u := a.upload
	if u == nil {
		return
	}
	// The endpoint may have answered before this goroutine's other half could say that it was done.
	if u.over(0) || u.read.Load() && u.over(lastPart) {
		if u.sent {
			a.conn.Sent()
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
func (a *attempt) stopUpload() error {
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
		a.conn.Abort()
		<-u.done
	}
	if u.state.Load() != failed {
		return nil
	}
	return u.err
}

// stream sends the response and returns how many bytes of body it had.
func (a *attempt) stream() int64 {
	x := a.x
	a.beginBoth()
	first := a.responsePart()
	part, whole, err := first.bytes, first.whole, first.err
	if whole {
		a.settle() // so that the client is told with the head when the rest of its body is not going to be read
	}
	if err == nil {
		if x.RPC != exchange.NoRPC && !whole && x.Response.RPC() != exchange.NoRPC {
			x.Response.ContentLength = -1 // a status may have to be added, see endCall
		}
		err = x.Down.WriteHead(x, part, whole)
		if x.RPC != exchange.NoRPC {
			a.form = x.Response.RPC() // its fields are gone once more is read
		}
	} else {
		if x.RPC == exchange.NoRPC {
			_ = a.stopUpload()
		} else if own := a.refused(); own != nil {
			err = own
		}
		a.fail(err)
		return writeLocal(x, a.pages)
	}
	sent := int64(len(part))
	if err == nil && !whole && !a.both {
		moved, ofClient, moveErr := a.conn.MoveBody(x, a.timeout)
		sent += moved
		if ofClient {
			err = moveErr
		} else if moveErr != nil {
			return a.breakOff(moveErr, sent)
		}
	}
	for err == nil && !whole {
		part, err = a.nextPart()
		switch {
		case err == io.EOF:
			whole = true
			err = x.Down.WriteBody(x, nil, true)
		case err != nil:
			return a.breakOff(err, sent)
		default:
			sent += int64(len(part))
			last := a.conn.BodyOver()
			if err = x.Down.WriteBody(x, part, last); last {
				whole = true
			}
		}
	}
	if err != nil {
		var own *fault.Error
		if x.Response.Code = fault.ClientClosed; errors.As(err, &own) {
			x.Response.Code = own.Code
		}
		x.Down.Abort()
	}
	return sent
}

// breakOff ends a response that the service did not complete.
func (a *attempt) breakOff(err error, sent int64) int64 {
	res := &a.x.Response
	res.Code = fault.UpstreamUnavailable
	switch {
	case a.x.Down.Gone():
		res.Code = fault.ClientClosed
	case errors.Is(err, os.ErrDeadlineExceeded), a.late():
		res.Code = fault.UpstreamTimeout
	}
	if !a.endCall("the service broke off, or the time was over, before the response was complete") {
		a.x.Down.Abort()
	}
	return sent
}

// finish gives the connection back.
func (a *attempt) finish() {
	if a.conn == nil {
		return
	}
	a.settle()
	a.release()
}

// release gives the connection back. Nobody else has it then: the upload has ended, and the client's end is not told to it any more.
func (a *attempt) release() {
	_ = a.stopUpload()
	if a.watched {
		a.watched = false
		a.x.Down.Watch(nil)
	}
	a.endpoint.State.Add(-1)
	a.endpoint.Release(a.conn, a.answered)
	a.conn = nil
}
