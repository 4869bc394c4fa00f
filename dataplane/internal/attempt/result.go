package attempt

import (
	"errors"
	"os"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/shared/fault"
)

// leastDeadlineOfClient is the shortest time that a client of gRPC may give a service for its end to be the service's
// fault: a client that waits for a millisecond only would otherwise have the service taken from others.
const leastDeadlineOfClient = time.Second

// begun notes that an endpoint has been chosen.
func (a *Attempts) begun() {
	a.open, a.awaitsStatus = true, false
	a.result.Endpoint, a.result.Service = a.Endpoint, a.Service
	a.result.Result = outcome.Result{Begun: a.Begun}
}

// Head notes that the head of a response is complete.
func (a *Attempt) Head(now time.Time) {
	a.Answered, a.Outcome = now, Answered
	r := &a.result
	r.Kind, r.Status, r.Took = outcome.Answered, a.x.Response.Status, now.Sub(a.Begun)
	if a.x.RPC == exchange.NoRPC {
		return
	}
	if status := a.x.Response.Header.Get("grpc-status"); status != "" {
		r.Status = outcome.StatusOfRPC(status, r.Status)
	} else {
		a.awaitsStatus = a.x.Response.RPC() == exchange.GRPC
	}
}

// complete notes that the response has come to its end, before anything of it is changed for the client.
func (a *Attempt) complete() {
	if a.awaitsStatus {
		a.awaitsStatus = false
		a.result.Status = outcome.StatusOfRPC(a.x.Response.Trailer.Get("grpc-status"), a.result.Status)
	}
}

// cutOff notes that the rest of a response did not come.
func (a *Attempts) cutOff(err error) {
	if kind := a.kindOf(err, false); kind != outcome.Canceled || a.awaitsStatus {
		a.result.Kind = kind
	}
	a.awaitsStatus = false
}

// failed notes that there is no response. again tells that the request is sent again, since the endpoint has not looked
// at it: the attempt's place in the circuit is kept for that.
func (a *Attempts) failed(err error, again bool) {
	switch {
	case again && upstream.NotProcessed(err):
		a.result.Kind = outcome.Refused
	case again:
		a.result.Kind = outcome.Canceled
	default:
		a.result.Kind = a.kindOf(err, false)
	}
}

// kindOf returns how an attempt has ended that ends with an error. late tells that the exchange's time is over.
func (a *Attempts) kindOf(err error, late bool) outcome.Kind {
	var own *fault.Error
	switch {
	case a.Exchange.Down.Gone(), errors.Is(err, errClientGone):
		return outcome.Canceled
	case errors.As(err, &own):
		return kindOfFault(own.Code)
	case late, errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err), a.late():
		if a.late() && a.Exchange.Deadline.Sub(a.Exchange.Start) < leastDeadlineOfClient {
			return outcome.Canceled
		}
		return outcome.TimedOut
	}
	return outcome.Reset
}

// kindOfFault is kindOf for an error that is the gateway's own. What is not the service's is the client's.
func kindOfFault(code fault.Code) outcome.Kind {
	switch code {
	case fault.UpstreamTLS:
		return outcome.ConnectFailed
	case fault.UpstreamInvalid:
		return outcome.Invalid
	case fault.UpstreamTimeout:
		return outcome.TimedOut
	case fault.UpstreamUnavailable:
		return outcome.Reset
	case fault.UpstreamOverloaded:
		return outcome.Overloaded
	}
	return outcome.Canceled
}

// Tell tells the service what has come of the attempt by now, where that may go on for long after its response's head.
func (a *Attempt) Tell() {
	a.tell(a.Answered)
	a.result.Permit.Stream()
}

// tell tells the service, once. now is when the attempt ended.
func (a *Attempt) tell(now time.Time) {
	if !a.open {
		return
	}
	a.open = false
	if a.awaitsStatus { // the client went away before the call's end
		a.result.Kind = outcome.Canceled
	}
	if a.Answered.IsZero() {
		a.result.Took = max(now.Sub(a.Begun), 0)
	}
	a.result.Ended = now
	a.result.Service.Ended(&a.result)
}

// end tells the service, if it has not been told, and leaves the endpoint and the circuit.
func (a *Attempt) end(now time.Time) {
	a.countOut()
	a.tell(now)
	a.leave()
}

// leave gives the place in the circuit back.
func (a *Attempt) leave() { a.result.Permit.Leave() }
