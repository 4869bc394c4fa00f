package attempt

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/dataplane/internal/upstream/circuit"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// What a policy says of retries costs an exchange whose first attempt is good nothing but a look at its response's
// status. The others wait, so they have left their loop before it is decided about them.

// next is what follows an attempt that was not good.
type next uint8

const (
	final     next = iota // what there is is the client's
	another               // the request is to be sent again, to the endpoint that was chosen
	abandoned             // the client went away meanwhile, and has a response
)

// Retriable reports whether the policy has a response that has come sent for again, if it allows another attempt: the
// exchange has to be where it may wait then.
func (a *Attempts) Retriable() bool {
	return a.Retries != nil && !a.isLast() && a.reasonOf(&a.Exchange.Response) != 0
}

// reasonOf returns the condition of the policy that a response meets; 0: none.
func (a *Attempts) reasonOf(res *exchange.Response) config.RetryConditions {
	if a.Exchange.RPC != exchange.NoRPC {
		if status := res.Header.Get("grpc-status"); status != "" {
			return a.Retries.On & conditionOfRPC(status)
		}
	}
	on, status := a.Retries.On, res.Status
	switch {
	case status < 400 || status > 599:
	case status >= 502 && status <= 504 && on.Has(config.RetryGatewayError):
		return config.RetryGatewayError
	case status >= 500 && on.Has(config.Retry5xx):
		return config.Retry5xx
	case on.Has(config.RetryStatuses) && a.Retries.Status(status):
		return config.RetryStatuses
	}
	return 0
}

// conditionOfRPC returns the condition that is about a grpc-status.
func conditionOfRPC(status string) config.RetryConditions {
	switch status {
	case "1":
		return config.RetryCancelled
	case "4":
		return config.RetryDeadlineExceeded
	case "8":
		return config.RetryResourceExhausted
	case "13":
		return config.RetryInternal
	case "14":
		return config.RetryUnavailable
	}
	return 0
}

// reasonOfError returns the condition of the policy that an attempt without a response meets; 0: none. unseen tells
// that the endpoint has nothing of the request, or has not looked at it.
func (a *Attempts) reasonOfError(err error, connected bool) (why config.RetryConditions, unseen bool) {
	var own *fault.Error
	switch {
	case upstream.Overloaded(err), errors.Is(err, errClientGone):
		return 0, false
	case !connected:
		why, unseen = config.RetryConnectFailure, true
	case upstream.NotProcessed(err):
		why, unseen = config.RetryRefusedStream, true
	case errors.As(err, &own) && own.Code != fault.UpstreamInvalid:
		return 0, false // the client is to blame, or the gateway
	case errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		why = config.RetryPerTryTimeout
	default:
		why = config.RetryReset
	}
	switch on := a.Retries.On; {
	case on.Has(why):
		return why, unseen
	case on.Has(config.Retry5xx):
		return config.Retry5xx, unseen
	}
	return 0, false
}

// isLast reports whether the attempt is the last one that the policy allows.
func (a *Attempts) isLast() bool { return a.ofGroup || a.retried+1 >= a.Retries.Attempts }

// allows reports whether the policy allows another attempt of the request for a reason.
func (a *Attempts) allows(why config.RetryConditions, unseen bool) bool {
	x := a.Exchange
	if a.isLast() || x.Request.Upgrade != "" || x.Down.Gone() {
		return false
	}
	return unseen || x.RPC != exchange.NoRPC && why&config.RetryGRPC != 0 || a.repeats()
}

// repeats reports whether requests of this method may be sent again although an endpoint may have acted on them.
func (a *Attempts) repeats() bool {
	r, method := a.Retries, a.Exchange.Request.Method
	switch {
	case a.Repeatable || r.AnyMethod:
		return true
	case len(r.Methods) > 0:
		return slices.Contains(r.Methods, method)
	}
	return repeatable(method)
}

// retryResponse decides about a response that has come, and throws it away where the request is to be sent again.
func (a *Attempts) retryResponse() next {
	why := a.reasonOf(&a.Exchange.Response)
	if why == 0 || !a.allows(why, false) || !a.bodyKept(true) {
		return final
	}
	a.tell(a.Answered) // so that the circuit knows of it when it is asked about another one
	wait, ok := a.plan(why, a.retryAfter(), a.Exchange.Response.Status == 429, &a.result.Permit)
	if !ok {
		return final
	}
	a.dropResponse()
	return a.backOff(wait)
}

// reasonToRetry returns the condition for which an attempt without a response may be followed by another one, once its
// body is kept for that; 0: none.
func (a *Attempts) reasonToRetry(err error) config.RetryConditions {
	why, unseen := a.reasonOfError(err, true)
	a.failedFor, a.unseen = why, unseen
	if why == 0 || !a.allows(why, unseen) || !a.bodyKept(false) {
		return 0
	}
	return why
}

// comesRound chooses the next endpoint where the policy has a wait before one is asked again, and reports whether it
// was tried: where no connection can be opened, there is no use in asking the same ones at once. The endpoint is that
// of the next attempt in any case: a strategy that chose for nothing would pass over somebody's turn.
func (a *Attempts) comesRound() bool {
	if a.Retries == nil || !a.Retries.On.Has(config.RetryConnectFailure|config.Retry5xx) {
		return false
	}
	a.next = a.Service.Pick(a.Exchange, &a.tried)
	return a.next != nil && a.tried.Has(a.next)
}

// retryConnect decides about an attempt that has no connection.
func (a *Attempts) retryConnect(err error) next {
	why, unseen := a.reasonOfError(err, false)
	a.failedFor, a.unseen = why, unseen
	if why == 0 || !a.allows(why, unseen) {
		return final
	}
	return a.retryError(why)
}

// retryError decides about an attempt without a response, of which nothing is held any more.
func (a *Attempts) retryError(why config.RetryConditions) next {
	wait, ok := a.plan(why, 0, false, nil)
	if !ok {
		return final
	}
	return a.backOff(wait)
}

// plan chooses the endpoint of another attempt, unless it was chosen, and returns how long to wait before it, not less
// than least where the same endpoint would get it again, or in any case where that is for the whole service. It reports
// false where there may be none. It has the place in the circuit of an attempt that has ended, where one still holds
// it: who waited for another one would wait for itself. held is that; nil: the exchange holds none. Where there is no
// place it is waited for when the time has come, see giveWay.
func (a *Attempts) plan(
	why config.RetryConditions, least time.Duration, forAll bool, held *circuit.Permit,
) (wait time.Duration, ok bool) {
	x, r, shared := a.Exchange, a.Retries, &a.Service.Retries
	to := a.next
	if to == nil {
		to = a.Service.Pick(x, &a.tried)
	}
	if to == nil {
		return 0, false
	}
	if wait = a.jitter(); forAll || a.tried.Has(to) {
		if least > r.MaxRetryAfter && r.MaxRetryAfter >= 0 {
			return 0, false
		}
		wait = max(wait, least)
	}
	now := x.Tick()
	if !x.Deadline.IsZero() && x.Deadline.Sub(now) <= wait {
		return 0, false
	}
	if !shared.Budget.Take(now, r.BudgetPercent, r.MinPerSecond) {
		shared.Exhausted.Add(1)
		return 0, false
	}
	if v := a.Service.AdmitAfter(x, held, &a.nextPermit); v != circuit.Admitted && v != circuit.Busy {
		return 0, false
	}
	a.next = to
	a.retried++
	shared.Count(why)
	return wait, true
}

// jitter returns a random time before the next retry: exponential back-off with full jitter.
func (a *Attempts) jitter() time.Duration {
	r := a.Retries
	most := r.BackoffBase << min(a.retried, 30)
	if most > r.BackoffMax || most < r.BackoffBase { // or it has run over
		most = r.BackoffMax
	}
	return time.Duration(rand.Int64N(int64(most) + 1))
}

// retryAfter returns how long a response with 429 or 503 asks to wait; 0: it does not say, or nobody listens.
func (a *Attempts) retryAfter() time.Duration {
	x := a.Exchange
	res := &x.Response
	if a.Retries.MaxRetryAfter < 0 || res.Status != 429 && res.Status != 503 {
		return 0
	}
	return retryAfter(res.Header.Get("Retry-After"), x.Now)
}

// retryAfter returns the time of a Retry-After: seconds or a date (RFC 9110 section 10.2.3); 0: it is neither.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return math.MaxInt64
	}
	for _, layout := range dates {
		if at, err := time.Parse(layout, value); err == nil {
			return max(at.Sub(now), 0)
		}
	}
	return 0
}

// dates are the forms in which a recipient has to understand a date, two of them obsolete (RFC 9110 section 5.6.7).
var dates = [...]string{
	"Mon, 02 Jan 2006 15:04:05 GMT", "Monday, 02-Jan-06 15:04:05 GMT", "Mon Jan _2 15:04:05 2006",
}

// The most that is read of a response that is thrown away, so that its connection can be used again.
const (
	drainBytes = 64 << 10
	drainTime  = 20 * time.Millisecond
)

// dropResponse gives the connection back, with the response that nobody gets.
func (a *Attempts) dropResponse() {
	x := a.Exchange
	end := time.Now().Add(drainTime)
	part, whole, err := a.Conn.BufferedBody(x, drainTime)
	for n := len(part); !whole && err == nil && n < drainBytes && time.Now().Before(end); n += len(part) {
		part, err = a.Conn.NextBody(x, drainTime)
		whole = err != nil || a.Conn.BodyOver()
	}
	a.Release()
	a.response = Part{}
	x.DropResponse()
}

// giveWay gives the place in the circuit of an attempt that has to wait back: others may be asked meanwhile, or try
// the service. It asks for a place when it begins, as each attempt does.
func (a *Attempts) giveWay(wait time.Duration) {
	if wait > 0 {
		a.nextPermit.Leave()
	}
}

// backOff waits before another attempt begins, or until the client goes away.
func (a *Attempts) backOff(wait time.Duration) next {
	x := a.Exchange
	x.EndTry()
	a.giveWay(wait)
	a.fresh, a.from = false, a.Tried
	if x.Sleep(wait); !x.Down.Gone() {
		return another
	}
	a.nextPermit.Leave()
	a.next, a.Endpoint = nil, nil
	a.Outcome = Failed
	x.Fail(fault.ClientClosed, "the client broke off")
	return abandoned
}
