// Package outcome says what came of a request that was sent to one endpoint, for all that learns from it: circuits,
// the ejection of outliers, strategies of balancing and the budgets of retries.
package outcome

import "time"

// Kind is how an attempt ended.
type Kind uint8

// The kinds. The zero value says nothing about the endpoint.
const (
	// Canceled is an attempt that ended for another reason than the endpoint: the client went away or was at fault,
	// another attempt has won, or an idle connection had ended before the request came to it.
	Canceled Kind = iota
	// Answered is a response, whatever its status.
	Answered
	// ConnectFailed is a connection that could not be opened, TLS included.
	ConnectFailed
	// Reset is a connection or a stream that the endpoint broke off, before its response or within it.
	Reset
	// TimedOut is an endpoint that took longer than it had.
	TimedOut
	// Invalid is a response that can't be understood.
	Invalid
	// Refused is a request that the endpoint says it has not looked at (RFC 9113 section 8.7), and that is sent again.
	Refused
	// Overloaded is a request that was never sent, since the service's connection_pool allows no more.
	Overloaded
)

var kinds = [...]string{
	"canceled", "answered", "connect-failed", "reset", "timed-out", "invalid", "refused", "overloaded",
}

// String returns the kind's name.
func (k Kind) String() string { return kinds[k] }

// Result is how one attempt ended.
type Result struct {
	// Kind is how.
	Kind Kind
	// Status is the response's; 0: there was none. That of a gRPC call is made of its grpc-status, see StatusOfRPC.
	Status int
	// Begun is when the endpoint was chosen.
	Begun time.Time
	// Took is how long the endpoint took to answer, the wait for a connection included, or to fail.
	Took time.Duration
	// Ended is when the result was known: it may be long after the response's head, with the end of its body.
	Ended time.Time
}

// Telling reports whether the result says anything about the endpoint.
func (r *Result) Telling() bool {
	return r.Kind != Canceled && r.Kind != Refused && r.Kind != Overloaded
}

// Failed reports whether the endpoint is to blame: it gave no response, or one of 5xx.
func (r *Result) Failed() bool {
	if r.Kind == Answered {
		return r.Status >= 500
	}
	return r.Telling()
}

// StatusOfRPC returns the status of HTTP that a call of gRPC counts as: 5xx where the service is to blame
// (DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS, UNKNOWN), and 200 for all others, which are answers to what the
// client has sent. status is the call's grpc-status, and with is that of the response itself, which counts where
// grpc-status is none.
func StatusOfRPC(status string, with int) int {
	switch status {
	case "":
		return with
	case "2", "13", "15": // UNKNOWN, INTERNAL, DATA_LOSS
		return 500
	case "14": // UNAVAILABLE
		return 503
	case "4": // DEADLINE_EXCEEDED
		return 504
	}
	return 200
}
