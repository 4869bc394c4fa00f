package pipeline

import (
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/middleware"
)

// Step is one middleware with its settings. It is shared by all exchanges, so it is safe for concurrent use, and it
// keeps no string of an exchange.
//
// The phases of an exchange, in their order, and what a step may do in each:
//
//	Request    The request's head is complete; of its body nothing has been read. The step may change x.Request's header,
//	           set x.Principal, put itself between the exchange and its client (x.Down), and answer.
//	(body)     A step that has replaced x.Down sees, and may replace, each part of the request's body in NextBody.
//	(service)  The service is asked.
//	Response   The response's head is complete, whoever made it. The step may change its status and header, and replace x.Down.
//	(body)     A step that has replaced x.Down sees, and may replace, each part of the response in WriteHead and WriteBody.
//	End        The last byte has been sent, or whatever has ended the exchange has happened. See [Ender].
//
// A step that waits for something ends when x.Deadline is over or the client has gone, which
// [exchange.Exchange.Context] tells. How often it waits is said in the catalogue: see middleware.Waits.
type Step interface {
	// Request runs before the service is asked. It may change x.Request's header, or answer by x.Answer or x.Fail and
	// return exchange.Stop: no later step runs its request phase then. Where x.InLoop, it must not wait: one that has to
	// returns exchange.Later, having changed nothing, and is called again where it may.
	Request(x *exchange.Exchange) exchange.Verdict
	// Response runs before the response's head is sent, whoever made the response. It may change x.Response's status and
	// header. It runs for every step whose request phase was begun, and does not wait.
	Response(x *exchange.Exchange)
}

// Worker is a Step that may work long at a response's body while that is sent. Such a response is sent where no other
// connection waits meanwhile.
type Worker interface {
	Step
	// WorksOn reports whether it does so, of a response that has a number of bytes so far.
	WorksOn(x *exchange.Exchange, bytes int) bool
}

// Ender is a Step that is told of the end of exchanges.
type Ender interface {
	Step
	// End runs once for every step whose request phase was begun, last step first, when nothing more happens to the
	// exchange, whatever has ended it. It may read the exchange and does not wait.
	End(x *exchange.Exchange, o *Outcome)
}

// Outcome is what an exchange came to.
type Outcome struct {
	// Status is the response's; 0: none was sent.
	Status int
	// Code is the gateway's error; empty: none. A response that broke off after its head has one.
	Code fault.Code
	// Tried is how many connections to services have been asked for; 0: no service was asked.
	Tried int
	// Duration is from the complete request head to the end, and Upstream to the head of the service's response; 0: there
	// was none.
	Duration, Upstream time.Duration
	// RequestBytes and ResponseBytes are those of the bodies, as far as they are known.
	RequestBytes, ResponseBytes int64
}

// NamedStep is a step in its place.
type NamedStep struct {
	// Name is the middleware's.
	Name string
	Step Step
	// Waits is how often its request phase waits for something.
	Waits middleware.Waits
}
