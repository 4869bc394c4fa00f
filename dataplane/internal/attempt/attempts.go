package attempt

import (
	"errors"
	"os"
	"time"

	"gateway.internal/dataplane/internal/errorpage"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/dataplane/internal/upstream/circuit"
	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// maxConnectAttempts is how many endpoints are tried when connections can't be opened. Nothing has been sent then, so
// any request may go elsewhere.
const maxConnectAttempts = 3

// Attempts are those of one exchange. What they have in common is set before the first begins. They follow one another,
// unless Retries says that there may be several at once. One goroutine owns them.
type Attempts struct {
	// Attempt is the one that is under way, or whose response is the client's.
	Attempt

	Exchange *exchange.Exchange
	// Service has the endpoints.
	Service *upstream.Service
	// Timeout is the longest wait for the service, and HeadTimeout that for the head of its response; 0: Timeout.
	Timeout, HeadTimeout time.Duration
	// DeadlineHeader is the field that the service is told how much time is left by; "": none.
	DeadlineHeader string
	// Pages are what the client is shown of errors; nil: the gateway's own JSON.
	Pages *errorpage.Pages
	// Repeatable says that the request may be sent again whatever its method.
	Repeatable bool
	// Retries says which attempts are followed by another one, and when several are made at once; nil: none are but those
	// that could not be sent.
	Retries *config.Retries
	// Panics is told of what panics apart from the caller's goroutine.
	Panics *telemetry.Panics

	// Tried is how many connections have been asked for.
	Tried int
	// Request is what came of the request's body with its head, once RequestPart was called.
	Request Part

	ofGroup bool           // it is one of several at once: the group decides whether there is another one
	tried   upstream.Tried // the endpoints that were chosen
	retried int            // attempts that Retries has allowed
	from    int            // Tried when the attempt began
	// next is the endpoint of the next attempt where it was chosen before that begins, and nextPermit its place in the
	// circuit where that was taken.
	next       *upstream.Endpoint
	nextPermit circuit.Permit

	fresh   bool            // the next connection has to be a new one
	streams bool            // the response goes on for as long as something moves
	both    bool            // it has begun while the request's body is still coming
	verdict circuit.Verdict // why no endpoint was chosen

	unconnected bool                   // there was no connection
	failedFor   config.RetryConditions // what there is no response for, as the policy calls it; 0: nothing of that
	unseen      bool                   // the endpoint has nothing of the request
	form        exchange.RPC           // of the response that the client is being sent
	group       *Group                 // of those that may be under way at once; nil: there is none
}

// Send gets the response's head, and reports false when x has a response of the gateway's own instead.
func (a *Attempts) Send() bool {
	// Where one was chosen before, or has been made, there was one at a time so far, which may hold what a group of them
	// knows nothing of.
	if a.Endpoint == nil && a.Tried == 0 && a.Several() {
		return a.hedge()
	}
	first := a.RequestPart()
	if first.Err != nil {
		a.fail(first.Err)
		return false
	}
	for a.connect() {
		a.Watch()
		a.tellTime()
		left, started, err := a.Conn.Send(a.Exchange, first.Bytes, first.Whole, a.Patience())
		if err == nil && (!first.Whole || len(left) > 0) {
			a.begin(left)
			if started, err = a.Conn.Answer(a.Exchange, a.Patience()); err == nil {
				err = a.upload.answered()
			}
		}
		if answered, again := a.Judge(started, err); !again {
			return answered
		}
	}
	return false
}

// Patience is the longest wait for the head of a response.
func (a *Attempts) Patience() time.Duration {
	if a.HeadTimeout > 0 {
		return a.HeadTimeout
	}
	return a.Timeout
}

// RequestPart returns what came of the request's body with its head.
func (a *Attempts) RequestPart() *Part {
	p := &a.Request
	if !p.taken {
		p.taken = true
		p.Bytes, p.Whole, p.Err = a.Exchange.Down.BufferedBody()
	}
	return p
}

// ResponsePart returns what came of the response's body with its head.
func (a *Attempts) ResponsePart() *Part {
	p := &a.response
	if !p.taken {
		p.taken = true
		p.Bytes, p.Whole, p.Err = a.Conn.BufferedBody(a.Exchange, a.Timeout)
	}
	return p
}

// Choose begins an attempt: it chooses an endpoint, if possible one that was not tried before, and reports whether
// there is one, and the service's circuit lets it be asked.
func (a *Attempts) Choose() bool {
	x := a.Exchange
	x.EndTry()
	a.x, a.Outcome = x, Pending
	to := a.next
	if a.next = nil; a.nextPermit.Held() {
		a.result.Permit, a.nextPermit = a.nextPermit, circuit.Permit{}
	}
	// One that has waited for its time has given its place back, see giveWay.
	if a.verdict = a.Service.Admit(x, &a.result.Permit); a.verdict != circuit.Admitted {
		a.Endpoint = nil
		return false
	}
	if to == nil || !to.State.Healthy() || to.Gone() { // it may have been ejected or taken away since it was chosen
		to = a.Service.Pick(x, &a.tried)
	}
	if a.Endpoint = to; to == nil {
		a.leave()
		return false
	}
	a.Begun = x.Now // the wait for a place in the circuit is over
	if a.Retries != nil && a.tried.None() {
		a.Service.Retries.Budget.Request(x.Now) // the first attempt of the request
	}
	a.tried.Add(a.Endpoint)
	a.begun()
	if a.Retries != nil && a.Retries.PerTry > 0 {
		x.BeginTry(a.Begun, a.Retries.PerTry)
	}
	x.Endpoint = a.Endpoint.Address()
	if x.Forward.OwnHost {
		x.Forward.Host = a.Endpoint.Authority()
	}
	return true
}

// Refused reports whether the service's circuit has refused the attempt that was to begin.
func (a *Attempts) Refused() bool { return a.verdict == circuit.Open || a.verdict == circuit.Full }

// Refuse makes that the response.
func (a *Attempts) Refuse() { a.Service.Refuse(a.Exchange, a.verdict) }

// connect gets a connection, and reports false when x has a response of the gateway's own instead.
func (a *Attempts) connect() bool {
	var before error // of the attempt before
	for {
		if chosen := a.Endpoint != nil && a.Tried == 0; !chosen && (a.Refused() || !a.Choose()) {
			a.Outcome = Failed
			switch {
			case a.verdict != circuit.Admitted && before != nil:
				a.fail(before)
			case a.verdict != circuit.Admitted && a.Exchange.Down.Gone():
				a.fail(errClientGone)
			case a.verdict != circuit.Admitted:
				a.Refuse()
			default:
				a.Exchange.Fail(fault.NoHealthyEndpoints, "the service has no healthy endpoint")
			}
			return false
		}
		a.Tried++
		a.countIn()
		conn, err := a.acquire(a.fresh)
		if err == nil {
			a.Conn, a.Used = conn, conn.Used()
			return true
		}
		now := time.Now()
		late := !a.Exchange.Deadline.IsZero() && !now.Before(a.Exchange.Deadline)
		before = err
		a.result.Kind = a.kindOf(err, late)
		if a.result.Kind == outcome.Reset {
			a.result.Kind = outcome.ConnectFailed
		}
		a.end(now)
		free := a.Tried-a.from < maxConnectAttempts && !upstream.Overloaded(err) && !late && !a.Exchange.Down.Gone()
		if free && !a.comesRound() {
			a.Exchange.Tick() // every endpoint has its time
			continue
		}
		if a.Retries != nil && !late {
			switch a.retryConnect(err) {
			case another:
				continue
			case abandoned:
				return false
			}
		}
		if free {
			a.Exchange.Tick()
			continue
		}
		a.Endpoint = nil
		a.unconnected = true
		a.fail(err)
		return false
	}
}

// AcquireIdle gets the attempt that Choose has begun an idle connection, of those that a loop looks after if possible;
// nil: there is none, and Send goes on with it.
func (a *Attempts) AcquireIdle(loop *socket.Loop) upstream.LoopConn {
	conn := a.Endpoint.AcquireIdle(a.Exchange.Now, loop)
	if conn == nil {
		return nil
	}
	a.Tried, a.Conn, a.Used = 1, conn, conn.Used()
	a.countIn()
	a.TellDeadline()
	return conn
}

// Withdraw gives that connection back, on which nothing was sent that anybody could act on. Send goes on with the
// attempt.
func (a *Attempts) Withdraw() {
	a.Tried = 0
	a.giveBack()
}

// acquire gets a connection to the endpoint, which is the whole of an attempt where the client wants a tunnel.
func (a *Attempts) acquire(fresh bool) (upstream.Conn, error) {
	if a.Exchange.Request.Upgrade == exchange.Connect {
		return a.Endpoint.Open(a.Exchange)
	}
	return a.Endpoint.Acquire(a.Exchange, fresh)
}

// Judge judges what sending the request came to. Where it was in vain, the connection is given back, and either the
// request is to be sent again, or x has a response of the gateway's own.
func (a *Attempts) Judge(started bool, err error) (answered, again bool) {
	if err == nil {
		a.Head(a.Exchange.Tick())
		if a.Retries == nil {
			return true, false
		}
		a.Good()
		next := a.retryResponse()
		return next == final, next == another
	}
	// An endpoint may close an idle connection just when a request is sent on it. Nothing of a response came, so a request
	// that may be repeated is sent again, on a new connection (RFC 9110 section 9.2.2). One that the endpoint has not
	// looked at is sent again whatever it is, as long as nothing of its body was read that has not been kept. Whatever
	// else an endpoint does with a request it does knowing it: what follows then is the policy's.
	resend := a.Used && !a.fresh && upstream.Stale(err) && (a.Repeatable || repeatable(a.Exchange.Request.Method)) ||
		upstream.NotProcessed(err) && a.Tried-a.from < maxConnectAttempts
	resend = resend && (a.Request.Whole || a.upload == nil) && !started && !a.Exchange.Down.Gone()
	paused := a.awaitsClient()
	var why config.RetryConditions
	if a.Retries != nil && !resend {
		why = a.reasonToRetry(err)
	}
	if uploadErr := a.stopUpload(); uploadErr != nil {
		err, resend, why = uploadErr, false, 0
	}
	if a.failed(err, resend); paused && a.result.Kind == outcome.TimedOut {
		a.result.Kind = outcome.Canceled
	}
	place := a.result.Permit
	if resend {
		a.result.Permit = circuit.Permit{} // it is the next attempt's
	}
	a.Release()
	if resend {
		a.result.Permit = place
		// The connection of one that was not looked at may be about to end, and carry the next attempt into its end: that one
		// is sent again too.
		a.fresh = a.fresh || !errors.Is(err, upstream.ErrNotProcessed)
		a.Exchange.Tick()
		return false, true
	}
	if why != 0 {
		switch a.retryError(why) {
		case another:
			return false, true
		case abandoned:
			return false, false
		}
	}
	a.fail(err)
	return false, false
}

// Good takes in that there is a response, where there is a policy of retries.
func (a *Attempts) Good() {
	a.Exchange.EndTry()
	a.learn(a.Answered)
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
func (a *Attempts) fail(err error) {
	defer a.Exchange.EndTry()
	var own *fault.Error
	a.Outcome = Failed
	switch {
	case a.Exchange.Down.Gone():
		a.Exchange.Fail(fault.ClientClosed, "the client broke off")
	case errors.As(err, &own):
		a.Exchange.Fail(own.Code, own.Reason)
	case errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err), a.late():
		a.Exchange.Fail(fault.UpstreamTimeout, a.whichTimeout(err))
	case errors.Is(err, errClientGone):
		a.Exchange.Fail(fault.BadRequest, "the request's body broke off")
		a.Exchange.Response.Code = fault.ClientClosed
	default:
		a.Exchange.Fail(fault.UpstreamUnavailable, "the service can't be reached or broke off")
	}
}

// late reports whether the deadline of a gRPC call is over. The service was told of it and resets the stream by itself
// then, perhaps before the timer here has run off: that is no service that broke off.
func (a *Attempts) late() bool {
	return a.Exchange.RPC != exchange.NoRPC && !a.Exchange.Deadline.IsZero() && !time.Now().Before(a.Exchange.Deadline)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// Finish gives the connection back, and all that attempts at once have held.
func (a *Attempts) Finish() {
	if a.Conn != nil {
		a.settle()
		a.Release()
	}
	a.end(a.Begun)
	a.nextPermit.Leave()
	a.group.finish()
}

// Discard does what Finish does where nobody knows what state the connection is in: it is given up.
func (a *Attempts) Discard() {
	a.discard()
	a.nextPermit.Leave()
	a.group.finish()
}

// StopUpload ends the sending of the request's body: nobody reads from the client's connection then.
func (a *Attempts) StopUpload() { _ = a.stopUpload() }

// stopUpload is that of the attempt, after which nobody reads for another one either.
func (a *Attempts) stopUpload() error {
	err := a.Attempt.stopUpload()
	a.group.stopBody()
	return err
}

// settle is that of the attempt, after which nobody reads for another one either.
func (a *Attempts) settle() {
	a.Attempt.settle()
	a.group.stopBody()
}
