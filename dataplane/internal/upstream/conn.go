package upstream

import (
	"errors"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/http2"
)

// ErrNotProcessed is of a request that the endpoint says it has not looked at.
var ErrNotProcessed = http2.ErrNotProcessed

// NotProcessed reports whether a request that ended with an error has not been looked at by the endpoint, as it says
// itself, or since nothing of it was sent: any request may be sent again.
func NotProcessed(err error) bool {
	return errors.Is(err, ErrNotProcessed) || errors.Is(err, http1.ErrUnsent)
}

// Stale reports whether a request ended with its connection before anything of a response came, so that it may have
// crossed with the end of an idle connection. An endpoint that speaks HTTP/2 says of what it has not looked at that it
// has not (RFC 9113 section 8.7): there is no such doubt.
func Stale(err error) bool { return errors.Is(err, http1.ErrStale) }

// Conn carries one exchange to an endpoint, whatever the endpoint speaks. The exchange's goroutine owns it from Acquire
// to Release; SendBody may run on another one meanwhile, and anybody may call Abort; both have to have ended before
// Release, since the connection is somebody else's from then on. Timeouts are the longest wait for the endpoint each
// time, besides the exchange's deadline.
type Conn interface {
	// Used reports whether the connection has carried an exchange before, so that its end may be no fault of this one.
	Used() bool
	// Send writes the request's head with as much of the first part of its body as the endpoint takes without being waited
	// for, and returns what is left for SendBody. Where nothing is and the part is all of the body (whole), it waits for
	// the response's head; otherwise Answer does. started tells that something of the response came.
	Send(x *exchange.Exchange, part []byte, whole bool, timeout time.Duration) (left []byte, started bool, err error)
	// Answer waits for the response's head, which goes into x.Response; 1xx responses go to x.Down.
	Answer(x *exchange.Exchange, timeout time.Duration) (started bool, err error)
	// SendBody writes a further part of the request's body; last tells that it is the end.
	SendBody(x *exchange.Exchange, part []byte, last bool, timeout time.Duration) error
	// Sent says that the request's body has been sent to its end.
	Sent()
	// BufferedBody returns what came of the response's body with its head, and whether that is all of it. It may be called
	// once, before NextBody.
	BufferedBody(x *exchange.Exchange, timeout time.Duration) (part []byte, whole bool, err error)
	// NextBody waits for the next part of the response's body; io.EOF comes after the last, when trailers are known. A
	// part is valid until the next call, which also ends the views of the head.
	NextBody(x *exchange.Exchange, timeout time.Duration) ([]byte, error)
	// MoveBody sends what is left of a large body on to x.Down without reading it, where that is possible, and otherwise
	// does nothing. It is called between BufferedBody and NextBody. ofClient tells that err is of the client's connection.
	MoveBody(x *exchange.Exchange, timeout time.Duration) (moved int64, ofClient bool, err error)
	// Tunnel returns what follows a response that has gone over to another protocol, which x.Response.Tunnel tells.
	Tunnel() exchange.Tunnel
	// BodyOver reports whether the response's body has been read to its end.
	BodyOver() bool
	// Abort makes every waiting and later call fail at once.
	Abort()
}

// LoopConn is a Conn that can be in a loop, whatever the endpoint speaks.
type LoopConn interface {
	Conn
	codec.LoopRequester
}
