// Package exchange holds one request with its response on their way through a node: what every step after the
// codec sees, whichever HTTP version the client or the service speaks. It knows no sockets; the client's side of
// the connection is behind [Downstream].
//
// Strings in an exchange are views into buffers that are reused when the exchange ends.
package exchange

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"gateway.internal/shared/fault"
	"gateway.internal/shared/match"
)

// Exchange is one request with its response. One goroutine owns it from the parsed head to the last byte sent;
// a step that hands it to others uses [Exchange.Fork].
type Exchange struct {
	state
	memory
}

// state is all that belongs to one request. Reset zeroes it by assignment, so that nothing of it is left for the next
// one.
type state struct {
	Request  Request
	Response Response

	// ID is the request id: the client's X-Request-Id where that is accepted, else made here. Services and clients get it
	// as X-Request-Id.
	ID string
	// Peer is who has opened the connection; nil: nothing is known of it.
	Peer *Peer
	// Client is the client's address: the peer's, or the one that trusted proxies name. Its port is 0 where they name
	// none.
	Client netip.AddrPort
	// ClientText is Client's address in text, as X-Forwarded-For carries it; "unknown" where it has none.
	ClientText string
	// Scheme is "http" or "https": the one that the client uses, where trusted proxies tell.
	Scheme string
	// Forwarded is what services are told of where the request comes from.
	Forwarded ForwardedValues
	// TLS is what the client's connection agreed on; nil without TLS.
	TLS *TLS
	// RPC is the form of gRPC that the client speaks; it decides what errors look like.
	RPC RPC
	// Start is when the head was complete.
	Start time.Time
	// Now is the latest time that is known, see Tick: Start or later. It serves where being a little behind does no harm.
	Now time.Time
	// Deadline is when the exchange has to be over; zero: never.
	Deadline time.Time
	// Principal is whom a step has found the request to come from; nil: nobody has said. What it points to is not changed
	// any more.
	Principal *Principal
	// Responded tells that the codec was given the response's head: there is no other response any more. Codecs set it.
	Responded bool
	// InLoop tells that the exchange runs on a loop's goroutine, where nothing may wait.
	InLoop bool
	// Route and Service are names for errors and logs; empty until they are known.
	Route, Service string
	// RouteMethods is the methods that the route names, as a list of a field; set for CORS preflights alone. Empty: any.
	RouteMethods string
	// Endpoint is the address of the endpoint that was asked last; empty: none.
	Endpoint string
	// Forward is what the service is to see instead of the client's path and host; empty fields change nothing.
	Forward Forward
	// Down is the client's side.
	Down Downstream
	// BodyLimit is the most bytes that the request's body may have; negative: any number. Down keeps it already: a
	// step that decodes the body counts by it what comes out.
	BodyLimit int64
	// Accepts is which content codings the client accepts, as a step has read that before later ones could change it.
	Accepts AcceptedCodings
	// Match is what routes are matched against; its fields are set when that happens.
	Match match.Request
	// Shard spreads counters: exchanges of one connection have the same, from 0.
	Shard uint32

	queries *[]queryChange // records what ChangeQuery is called for, when it is wanted; see Fork

	id       [32]byte
	affinity Affinity
	stream   stream
	try      atomic.Int64 // when the attempt has to be over, in nanoseconds after Start; 0: when the exchange has
	client   clientWatch
	// of is the exchange that this one is a fork or a branch of, and ended what ends a fork's waits besides; see Fork.
	of    *Exchange
	waits bool            // the fork's step has asked for a context
	ended context.Context //nolint:containedctx // it is as long as the fork
}

// memory is kept for the next exchange. What of it belongs to one request is forgotten by Reset.
type memory struct {
	// Params are the path's parameters.
	Params match.Params
	// Memory is for the request's path and the forwarded one where they are normalised.
	Memory [2][]byte
	// ForwardedMemory is for the texts of Forwarded and ClientText.
	ForwardedMemory []byte
	// Texts is for what steps put together, such as fields with variables: they append to it, and views of it live as long
	// as the exchange.
	Texts []byte

	// Handler is memory of whoever serves exchanges, which it may leave here for the next one.
	Handler any

	facts    []Fact     // that steps have put
	body     [512]byte  // of an error
	watchers [2]Aborter // of the client
}

// Tick brings Now up to date and returns it. It asks for the monotonic clock only, which costs half of time.Now.
func (x *Exchange) Tick() time.Time {
	x.Now = x.Start.Add(time.Since(x.Start))
	return x.Now
}

// From makes the exchange one of a peer's.
func (x *Exchange) From(p *Peer) {
	x.Peer, x.Client, x.ClientText, x.Scheme, x.TLS = p, p.Client, p.ClientText, p.Scheme, p.TLS
}

// Version is a version of HTTP.
type Version uint8

// The versions; the zero value is HTTP/1.1.
const (
	HTTP11 Version = iota
	HTTP10
	HTTP2
)

// String returns the version as in "HTTP/1.1".
func (v Version) String() string {
	switch v {
	case HTTP10:
		return "HTTP/1.0"
	case HTTP2:
		return "HTTP/2"
	default:
		return "HTTP/1.1"
	}
}

// Forward is a rewritten request target.
type Forward struct {
	// Path and Host are what the service is to see; empty fields change nothing.
	Path, Host string
	// OwnHost makes Host that of each endpoint that is asked.
	OwnHost bool
}

// Request is the client's request, as steps may change it before it is sent.
type Request struct {
	// Method is the method, case kept.
	Method string
	// Path is the absolute path: as it was sent when the codec hands it on, and normalised before anything looks at it;
	// "*" for a server-wide OPTIONS, empty for a CONNECT.
	Path string
	// RawQuery is what follows "?", which is not part of it.
	RawQuery string
	// HasQuery tells "/a?" from "/a".
	HasQuery bool
	// Host is the authority, with its port when it was sent.
	Host string
	// Header has all fields but Host, hop-by-hop ones included until the codec writes.
	Header Header
	// Head is what the fields' lines are positions of; codecs own it.
	Head []byte
	// ContentLength is the body's length; -1 when it is not known before its end.
	ContentLength int64
	// Version is the HTTP version that the client speaks.
	Version Version
	// Expects100 is set when the client waits for 100 (Continue).
	Expects100 bool
	// AcceptsTrailers is set when the client said "TE: trailers".
	AcceptsTrailers bool
	// HasVia is set when the request has come through others, as the field Via says.
	HasVia bool
	// Upgrade is the protocol that the client wants to go over to, or several in its order of preference (RFC 9110 section
	// 7.8, RFC 8441); once the request goes to a service, the one that is allowed; Connect where the method is CONNECT.
	// Empty: none.
	Upgrade string
	// Trailer has the trailer fields once the body has been read to its end. What is passed on of them is Trailers.
	Trailer Header
	// KeepsOddNames is set when trailer fields with odd names are passed on; see NameRule.
	KeepsOddNames bool
}

// TargetBytes returns the length of path and query as they are sent.
func (r *Request) TargetBytes() int {
	n := len(r.Path) + len(r.RawQuery)
	if r.HasQuery {
		n++
	}
	return n
}

// Response is what goes to the client.
type Response struct {
	// Status is 200 to 599 once there is a response, and up to 999 where a service says so; 0 before.
	Status int
	// Reason is the reason phrase, for HTTP/1.
	Reason string
	// Header has all fields, hop-by-hop ones included until the codec writes.
	Header Header
	// Head is what the fields' lines are positions of; codecs own it.
	Head []byte
	// ContentLength is the body's length; -1 when it is not known before its end.
	ContentLength int64
	// Local is set when the gateway itself answers; Body is then the whole body.
	Local bool
	// Tunnel is set when the service has gone over to Request.Upgrade: Status is then 101, or 200 of a CONNECT, and what
	// follows are that protocol's bytes.
	Tunnel bool
	// Body is a local answer's body.
	Body []byte
	// Code is the gateway's error, empty when there is none.
	Code fault.Code
	// Message says more of the error, to the client.
	Message string
	// Trailer has the trailer fields once the body has been read to its end. What is passed on of them is Trailers.
	Trailer Header
}

// Downstream is the client's side of an exchange. Its methods are called by the exchange's goroutine, but
// NextBody, which one other goroutine may call meanwhile.
type Downstream interface {
	// BufferedBody returns the part of the body that came with the head, decoded, and whether it is the whole body.
	// It may be called once, before NextBody.
	BufferedBody() (part []byte, whole bool, err error)
	// LimitBody makes the body fail with *fault.Error when it has more bytes; negative: any number. It comes before the
	// body is read.
	LimitBody(bytes int64)
	// NextBody waits for the next part of the request's body; io.EOF comes after the last, when trailers are known.
	// The part is valid until the next call. Errors are *fault.Error where the client is to blame.
	NextBody() ([]byte, error)
	// CancelBody makes a waiting NextBody, and every later one, return an error at once. Any goroutine may call it.
	CancelBody()
	// WriteInterim sends a 1xx response with its fields.
	WriteInterim(status int, header *Header, head []byte) error
	// WriteHead sends the response's head together with the first part of its body; last tells that it is all.
	WriteHead(x *Exchange, body []byte, last bool) error
	// WriteBody sends a further part; last tells that it is the end, and the trailers follow.
	WriteBody(x *Exchange, body []byte, last bool) error
	// Tunnel sends the response's head, which has gone over to Request.Upgrade, and returns what follows it. It is called
	// instead of WriteHead, and sets the status that this version of HTTP has for it.
	Tunnel(x *Exchange) (Tunnel, error)
	// Abort makes the client see that the response is not complete.
	Abort()
	// Watch makes a be aborted, on another goroutine, as soon as the client is seen to break off; nil ends that, and when
	// it returns no call is under way or to come.
	Watch(a Aborter)
	// Gone reports whether the client is known to have broken off.
	Gone() bool
}

// Aborter is what can be ended from outside.
type Aborter interface{ Abort() }

// Verdict is what a step decides in the request phase.
type Verdict uint8

const (
	// Continue lets the exchange go on.
	Continue Verdict = iota
	// Stop ends the request phase: the response has been set by Answer or Fail.
	Stop
	// Later tells that the step has to wait for something and may not, since the exchange runs in a loop; see
	// Exchange.InLoop. It has changed nothing.
	Later
)

// maxTexts is how much memory for texts an exchange keeps for the next one.
const maxTexts = 16 << 10

// Reset makes an exchange ready for another request and keeps its memory.
func (x *Exchange) Reset() {
	headers := [...]Header{
		x.Request.Header.emptied(), x.Request.Trailer.emptied(), x.Response.Header.emptied(), x.Response.Trailer.emptied(),
	}
	x.state = state{}
	x.Request.Header, x.Request.Trailer, x.Response.Header, x.Response.Trailer = headers[0], headers[1], headers[2], headers[3]
	x.Params.Reset()
	if len(x.facts) > 0 {
		clear(x.facts)
		x.facts = x.facts[:0]
	}
	if x.Texts = x.Texts[:0]; cap(x.Texts) > maxTexts {
		x.Texts = nil
	}
}

// Answer sets a response of the gateway's own. The body has to live as long as the exchange. Fields are added
// through x.Response.Header afterwards.
func (x *Exchange) Answer(status int, contentType string, body []byte) {
	res := &x.Response
	res.Header.Reset()
	res.Trailer.Reset()
	res.Status, res.Reason, res.Head, res.Tunnel = status, "", nil, false
	res.Local, res.Body, res.ContentLength = true, body, int64(len(body))
	if contentType != "" {
		res.Header.Add("Content-Type", contentType)
	}
}
