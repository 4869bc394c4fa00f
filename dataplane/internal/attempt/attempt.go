// Package attempt sends the requests of exchanges to endpoints of a service and judges what comes of that. An exchange
// may have several attempts, one after the other or at once: [Attempts] are those of one exchange.
package attempt

import (
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream"
)

// Attempt is one request to one endpoint. It has an endpoint, times, an outcome and a response of its own. One
// goroutine owns it.
type Attempt struct {
	// Endpoint is the one that was chosen, and Conn the connection to it; nil: none.
	Endpoint *upstream.Endpoint
	Conn     upstream.Conn
	// Used tells that Conn has carried another exchange before.
	Used bool
	// Begun is when the endpoint was chosen, and Answered when the response's head was complete; zero: it is not.
	Begun, Answered time.Time
	// Outcome is what came of it.
	Outcome Outcome

	// result is what the service is told of it, with its place in the circuit, once: open tells that it has not been.
	result       upstream.Result
	open         bool
	awaitsStatus bool // the call's grpc-status is still to come
	counted      bool // it is one of the endpoint's requests in flight

	// x is the exchange that the connection sees, and whose response it sets: the client's own, lent, where there is no
	// other attempt at the same time, and a copy where there may be.
	x        *exchange.Exchange
	watched  bool // Conn is broken off when the client goes away
	response Part // what came of the response's body with its head
	upload   *upload
}

// Outcome is what came of an attempt.
type Outcome uint8

// The outcomes; the zero value is Pending.
const (
	Pending  Outcome = iota // it is under way, or has not begun
	Answered                // the endpoint has sent the head of a response
	Failed                  // there is no response, and there will be none
	Canceled                // another attempt's response was taken
)

var outcomes = [...]string{"pending", "answered", "failed", "canceled"}

// String returns the outcome's name.
func (o Outcome) String() string { return outcomes[o] }

// Part is the first part of a body.
type Part struct {
	Bytes []byte
	Whole bool // it is all of it
	Err   error
	taken bool
}

// Response returns the attempt's own response. It is the client's once the attempt has won, or where there is no other
// attempt.
func (a *Attempt) Response() *exchange.Response { return &a.x.Response }

// Took returns how long the endpoint took to answer, the wait for a connection included; 0: it has not.
func (a *Attempt) Took() time.Duration {
	if a.Answered.IsZero() {
		return 0
	}
	return a.Answered.Sub(a.Begun)
}

// Watch makes the connection be broken off when the client goes away.
func (a *Attempt) Watch() {
	a.watched = true
	a.x.Watch(a.Conn)
}

// Release ends the attempt and gives the connection back. Nobody else has it then: the upload has ended, and the
// client's end is not told to it any more.
func (a *Attempt) Release() {
	now := a.giveBack()
	a.end(now)
}

// giveBack gives the connection back and goes on with the attempt, which has sent nothing on it. It returns the time.
func (a *Attempt) giveBack() time.Time {
	_ = a.stopUpload()
	if a.watched {
		a.watched = false
		a.x.Unwatch(a.Conn)
	}
	now := a.Answered
	if !a.x.InLoop || now.IsZero() { // in a loop, what is released in another round than it answered was not answered
		now = time.Now()
	}
	conn := a.Conn
	a.Conn = nil // whatever happens below, it is given back once
	a.countOut()
	a.Endpoint.Release(conn, a.Answered, now)
	return now
}

// countIn counts the attempt among its endpoint's requests in flight. Whatever becomes of it, it is taken out at its
// end.
func (a *Attempt) countIn() {
	a.counted = true
	a.Endpoint.State.Add(1)
}

func (a *Attempt) countOut() {
	if a.counted {
		a.counted = false
		a.Endpoint.State.Add(-1)
	}
}

// discard gives the connection up, whatever state it is in, if there is one.
func (a *Attempt) discard() {
	if a.Conn == nil {
		a.end(a.Begun)
		return
	}
	a.Conn.Abort()
	a.Release()
}
