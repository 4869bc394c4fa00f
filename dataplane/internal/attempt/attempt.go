// Package attempt is one exchange with one endpoint of a service, and, where that is allowed, with another one instead:
// it chooses the endpoint, sends the request and its body, judges what came of that, and streams the response.
package attempt

import (
	"errors"
	"os"
	"time"

	"gateway.internal/dataplane/internal/errorpage"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/shared/fault"
)

// maxConnectAttempts is how many endpoints are tried when connections can't be opened. Nothing has been sent then, so
// any request may go elsewhere.
const maxConnectAttempts = 3

// Attempt is one exchange with an endpoint, and, where that is allowed, another one instead. The first fields are set
// before it begins; one goroutine owns it.
type Attempt struct {
	Exchange *exchange.Exchange
	// Service has the endpoints.
	Service *upstream.Service
	// Timeout is the longest wait for the service.
	Timeout time.Duration
	// Pages are what the client is shown of errors; nil: the gateway's own JSON.
	Pages *errorpage.Pages
	// Repeatable says that the request may be sent again whatever its method.
	Repeatable bool
	// Panics is told of what panics apart from the caller's goroutine.
	Panics *telemetry.Panics

	// Endpoint is the one that was chosen last, and Conn the connection to it; nil: none.
	Endpoint *upstream.Endpoint
	Conn     upstream.Conn
	// Tried is how many connections have been asked for.
	Tried int
	// Used tells that Conn has carried another exchange before.
	Used bool
	// Answered is when the response's head was complete.
	Answered time.Time
	// Request is what came of the request's body with its head, once RequestPart was called.
	Request Part

	fresh    bool         // the next connection has to be a new one
	watched  bool         // Conn is broken off when the client goes away
	streams  bool         // the response goes on for as long as something moves
	both     bool         // it has begun while the request's body is still coming
	form     exchange.RPC // of the response that the client is being sent
	response Part         // what came of the response's body with its head
	upload   *upload
}

// Part is the first part of a body.
type Part struct {
	Bytes []byte
	Whole bool // it is all of it
	Err   error
	taken bool
}

// Send gets the response's head, and reports false when x has a response of the gateway's own instead.
func (a *Attempt) Send() bool {
	first := a.RequestPart()
	if first.Err != nil {
		a.fail(first.Err)
		return false
	}
	for a.connect() {
		a.Watch()
		a.tellTime()
		left, started, err := a.Conn.Send(a.Exchange, first.Bytes, first.Whole, a.Timeout)
		if err == nil && (!first.Whole || len(left) > 0) {
			a.begin(left)
			if started, err = a.Conn.Answer(a.Exchange, a.Timeout); err == nil {
				err = a.upload.answered()
			}
		}
		if answered, again := a.Outcome(started, err); !again {
			return answered
		}
	}
	return false
}

func (a *Attempt) RequestPart() *Part {
	p := &a.Request
	if !p.taken {
		p.taken = true
		p.Bytes, p.Whole, p.Err = a.Exchange.Down.BufferedBody()
	}
	return p
}

func (a *Attempt) ResponsePart() *Part {
	p := &a.response
	if !p.taken {
		p.taken = true
		p.Bytes, p.Whole, p.Err = a.Conn.BufferedBody(a.Exchange, a.Timeout)
	}
	return p
}

// Choose chooses an endpoint, if possible another one than before, and reports whether there is one.
func (a *Attempt) Choose() bool {
	if a.Endpoint = a.Service.Pick(a.Endpoint); a.Endpoint == nil {
		return false
	}
	a.Exchange.Endpoint = a.Endpoint.Address()
	if a.Exchange.Forward.OwnHost {
		a.Exchange.Forward.Host = a.Endpoint.Authority()
	}
	return true
}

// connect gets a connection, and reports false when x has a response of the gateway's own instead.
func (a *Attempt) connect() bool {
	for {
		if chosen := a.Endpoint != nil && a.Tried == 0; !chosen && !a.Choose() {
			a.Exchange.Fail(fault.NoHealthyEndpoints, "the service has no healthy endpoint")
			return false
		}
		a.Tried++
		a.Endpoint.State.Add(1)
		conn, err := a.acquire(a.fresh)
		if err == nil {
			a.Conn, a.Used = conn, conn.Used()
			return true
		}
		a.Endpoint.State.Add(-1)
		late := !a.Exchange.Deadline.IsZero() && !time.Now().Before(a.Exchange.Deadline)
		if a.Tried < maxConnectAttempts && !upstream.Overloaded(err) && !late && !a.Exchange.Down.Gone() {
			a.Exchange.Tick() // every endpoint has its time
			continue
		}
		a.Endpoint = nil
		a.fail(err)
		return false
	}
}

// Watch makes the connection be broken off when the client goes away.
func (a *Attempt) Watch() {
	a.watched = true
	a.Exchange.Watch(a.Conn)
}

// Outcome judges what sending the request came to. Where it was in vain, the connection is given back, and either the
// request is to be sent again, or x has a response of the gateway's own.
func (a *Attempt) Outcome(started bool, err error) (answered, again bool) {
	if err == nil {
		a.Answered = a.Exchange.Tick()
		return true, false
	}
	if uploadErr := a.stopUpload(); uploadErr != nil {
		err = uploadErr
	}
	a.Release()
	// An endpoint may close an idle connection just when a request is sent on it. Nothing of a response came, so a request
	// that may be repeated is sent again, on a new connection (RFC 9110 section 9.2.2). One that the endpoint has not
	// looked at is sent again whatever it is. Whatever else an endpoint does with a request it does knowing it: that is
	// its answer.
	again = a.Used && !a.fresh && upstream.Stale(err) && (a.Repeatable || repeatable(a.Exchange.Request.Method)) ||
		upstream.NotProcessed(err) && a.Tried < maxConnectAttempts
	if a.Request.Whole && !started && again {
		// The connection of one that was not looked at may be about to end, and carry the next attempt into its end: that one
		// is sent again too.
		a.fresh = a.fresh || !errors.Is(err, upstream.ErrNotProcessed)
		a.Exchange.Tick()
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
func (a *Attempt) fail(err error) {
	var own *fault.Error
	switch {
	case a.Exchange.Down.Gone():
		a.Exchange.Fail(fault.ClientClosed, "the client broke off")
	case errors.As(err, &own):
		a.Exchange.Fail(own.Code, own.Reason)
	case errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err), a.late():
		a.Exchange.Fail(fault.UpstreamTimeout, "the service did not answer in time")
	case errors.Is(err, errClientGone):
		a.Exchange.Fail(fault.BadRequest, "the request's body broke off")
		a.Exchange.Response.Code = fault.ClientClosed
	default:
		a.Exchange.Fail(fault.UpstreamUnavailable, "the service can't be reached or broke off")
	}
}

// late reports whether the deadline of a gRPC call is over. The service was told of it and resets the stream by itself
// then, perhaps before the timer here has run off: that is no service that broke off.
func (a *Attempt) late() bool {
	return a.Exchange.RPC != exchange.NoRPC && !a.Exchange.Deadline.IsZero() && !time.Now().Before(a.Exchange.Deadline)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// Finish gives the connection back.
func (a *Attempt) Finish() {
	if a.Conn == nil {
		return
	}
	a.settle()
	a.Release()
}

// Release gives the connection back. Nobody else has it then: the upload has ended, and the client's end is not told to
// it any more.
func (a *Attempt) Release() {
	_ = a.stopUpload()
	if a.watched {
		a.watched = false
		a.Exchange.Unwatch(a.Conn)
	}
	a.Endpoint.State.Add(-1)
	a.Endpoint.Release(a.Conn, a.Answered)
	a.Conn = nil
}

// acquire gets a connection to the endpoint, which is the whole of an attempt where the client wants a tunnel.
func (a *Attempt) acquire(fresh bool) (upstream.Conn, error) {
	if a.Exchange.Request.Upgrade == exchange.Connect {
		return a.Endpoint.Open(a.Exchange)
	}
	return a.Endpoint.Acquire(a.Exchange, fresh)
}

// Discard gives the connection up, whatever state it is in, if there is one.
func (a *Attempt) Discard() {
	if a.Conn == nil {
		return
	}
	a.Conn.Abort()
	a.Release()
}

// StopUpload ends the sending of the request's body: nobody reads from the client's connection then.
func (a *Attempt) StopUpload() { _ = a.stopUpload() }
