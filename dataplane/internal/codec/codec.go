// Package codec is what the codecs of HTTP/1.1 and HTTP/2 share, and what they share with those who use them: the
// handler that exchanges are given to, the limits that clients are held to, and the reading of request targets and
// hosts. It knows neither how messages are framed nor where requests go.
package codec

import (
	"time"

	"gateway.internal/dataplane/internal/exchange"
)

// Limits bound what a client may send and how long it may take. Every field is required.
type Limits struct {
	// MaxHeadBytes is the largest head, up to 64 KiB.
	MaxHeadBytes int
	// MaxTargetBytes is the longest path together with its query.
	MaxTargetBytes int
	// MaxFields is the largest number of header fields.
	MaxFields int
	// HeadTimeout is the longest from a head's first byte to its last.
	HeadTimeout time.Duration
	// IdleTimeout is how long a connection may wait for a request.
	IdleTimeout time.Duration
	// LastRequestTimeout is how long a connection of a server that drains may wait for one more request.
	LastRequestTimeout time.Duration
	// BodyTimeout is the longest wait for more of a body.
	BodyTimeout time.Duration
	// WriteTimeout is the longest that a client may take nothing of a response.
	WriteTimeout time.Duration
	// MinRate is the least number of bytes a second that a client has to send of a body, averaged over BodyTimeout, and
	// to take of a response, averaged over WriteTimeout, while it is waited for; 0: any.
	MinRate int64
	// HalfClosed lets clients that have shut their side of the connection down wait for the response for as long as it
	// takes. Otherwise they count as gone after a second or two, since one that has closed the connection can't be told
	// from them.
	HalfClosed bool
}

// DefaultLimits returns the limits of a node that was told nothing else.
func DefaultLimits() Limits {
	return Limits{
		MaxHeadBytes: 64 << 10, MaxTargetBytes: 8 << 10, MaxFields: 128,
		HeadTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second, LastRequestTimeout: time.Second,
		BodyTimeout: time.Minute, WriteTimeout: time.Minute, MinRate: 100,
	}
}

// Handler takes an exchange from its parsed head to the last byte of its response, through x.Down.
type Handler interface {
	Serve(x *exchange.Exchange)
}

// PanicHandler is a Handler that is told of defects of the codecs' own, each of which ends one exchange or one
// connection. Where the handler is none, such panics go on.
type PanicHandler interface {
	Handler
	// Panicked is told what has panicked, in an exchange of which route, if one is known, and with what. It is called by
	// a deferred function, from any goroutine.
	Panicked(what, route string, v any)
}

// PanicsOf returns what a handler is told of panics by; nil: it is no PanicHandler.
func PanicsOf(h Handler) func(what, route string, v any) {
	if p, ok := h.(PanicHandler); ok {
		return p.Panicked
	}
	return nil
}
