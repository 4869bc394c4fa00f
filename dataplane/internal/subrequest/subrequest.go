// Package subrequest asks services on behalf of an exchange, or of nobody: through their balancer, health and
// connections like every request, but without a route, so that no middleware runs for what middleware asks. Bodies are
// held in memory up to a limit.
package subrequest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/attempt"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/shared/fault"
)

// DefaultMaxResponseBytes is how long the body of a response may be where nothing else is said.
const DefaultMaxResponseBytes = 1 << 20

// Request is what a service is asked.
type Request struct {
	// Method is the method; empty: GET.
	Method string
	// Path is the absolute path, and Query what follows "?"; empty: none.
	Path, Query string
	// Host is the authority; empty: the endpoint's.
	Host string
	// Header has the fields but Host and those that frame the message.
	Header exchange.Header
	// Body is all of the body; nil: none.
	Body []byte
	// Repeatable says that asking twice does no more than asking once, whatever the method.
	Repeatable bool
	// RPC makes it a call of gRPC: the service is told by when the answer has to be there.
	RPC bool
	// DiscardsBody throws the response's body away as it comes.
	DiscardsBody bool
	// MaxResponseBytes is the longest body of a response that is taken; 0: DefaultMaxResponseBytes.
	MaxResponseBytes int
}

// Response is what it answers. It has memory of its own.
type Response struct {
	Status          int
	Header, Trailer exchange.Header
	Body            []byte
}

// Client asks one service. It is safe for concurrent use; nil asks nobody.
type Client struct {
	service *upstream.Service
	panics  *telemetry.Panics
}

// NewClient returns a client of a service; nil where that is nil.
func NewClient(service *upstream.Service, panics *telemetry.Panics) *Client {
	if service == nil {
		return nil
	}
	return &Client{service, panics}
}

// Name returns the service's name.
func (c *Client) Name() string { return c.service.Name() }

var exchanges = sync.Pool{New: func() any { return new(exchange.Exchange) }}

// Do asks the service and waits for the whole response, until ctx is over. The service sees the request come from where
// of comes from; of may be nil, and is only read. The error is *fault.Error. Where the response's head came before the
// error, the response comes with it: as much of it as is taken.
func (c *Client) Do(ctx context.Context, of *exchange.Exchange, r *Request) (*Response, error) {
	if c == nil {
		return nil, &fault.Error{Code: fault.ServiceNotFound, Reason: "the service is not there"}
	}
	x := exchanges.Get().(*exchange.Exchange)
	x.Reset()
	most := r.MaxResponseBytes
	if most == 0 {
		most = DefaultMaxResponseBytes
	}
	d := &down{ctx: ctx, body: r.Body, most: most, discards: r.DiscardsBody}
	c.fill(ctx, x, d, of, r)
	a := attempt.Attempts{
		Exchange: x, Service: c.service, Timeout: c.service.ResponseTimeout(), Panics: c.panics, Repeatable: r.Repeatable,
	}
	finished := false
	defer func() {
		if !finished { // it has panicked
			a.Discard()
		}
	}()
	if a.Send() {
		d.takeHead(&x.Response)
		a.Stream()
	}
	a.Finish()
	finished = true
	code, reason := x.Response.Code, x.Response.Message
	exchanges.Put(x)
	res := &d.response
	if res.Status == 0 {
		res = nil
	}
	switch {
	case ctx.Err() != nil:
		return res, &fault.Error{Code: fault.UpstreamTimeout, Reason: "the service did not answer in time"}
	case d.tooLong:
		return res, &fault.Error{Code: fault.UpstreamInvalid,
			Reason: fmt.Sprintf("the service's response is longer than %d bytes", most)}
	case code != "":
		return res, &fault.Error{Code: code, Reason: reason}
	case res == nil:
		return nil, &fault.Error{Code: fault.UpstreamUnavailable, Reason: "the service did not answer"}
	}
	return res, nil
}

func (c *Client) fill(ctx context.Context, x *exchange.Exchange, d *down, of *exchange.Exchange, r *Request) {
	x.Start = time.Now()
	x.Now, x.Down = x.Start, d
	x.Deadline, _ = ctx.Deadline()
	if of != nil {
		x.ID, x.Peer, x.Client, x.ClientText = of.ID, of.Peer, of.Client, of.ClientText
		x.Scheme, x.TLS, x.Forwarded = of.Scheme, of.TLS, of.Forwarded
		x.Route, x.Shard = of.Route, of.Shard
		x.Forwarded.Host = of.ForwardedHost() // not what this service is called
	} else {
		x.Forwarded.OmitXForwarded = true
	}
	x.Service = c.service.Name()
	req := &x.Request
	req.Method, req.Path, req.RawQuery, req.HasQuery, req.Host = r.Method, r.Path, r.Query, r.Query != "", r.Host
	if req.Method == "" {
		req.Method = "GET"
	}
	if r.Host == "" {
		x.Forward.OwnHost = true
	}
	for name, value := range r.Header.All() {
		req.Header.Add(name, value)
	}
	if of != nil { // who has been passed, so that a loop comes to its end
		for v := range of.Request.Header.Values("Via") {
			req.Header.Add("Via", v)
		}
	}
	req.ContentLength = int64(len(r.Body))
	if r.RPC {
		x.RPC, req.AcceptsTrailers = exchange.GRPC, true
		if !x.Deadline.IsZero() {
			req.SetRPCTimeout(x.Deadline.Sub(x.Start))
		}
	}
}

// down is the client's side of a subrequest: it has the request's whole body, and keeps the response.
type down struct {
	ctx      context.Context //nolint:containedctx // it is as long as the exchange
	body     []byte
	most     int
	discards bool
	got      int
	response Response
	tooLong  bool

	mu   sync.Mutex
	by   exchange.Aborter
	stop func() bool
}

var errTooLong = errors.New("the response is longer than what is taken")

func (d *down) BufferedBody() ([]byte, bool, error) { return d.body, true, nil }
func (d *down) LimitBody(int64)                     {}
func (d *down) NextBody() ([]byte, error)           { return nil, errors.New("there is no more") }
func (d *down) CancelBody()                         {}
func (d *down) Abort()                              {}
func (d *down) Gone() bool                          { return d.ctx.Err() != nil }

func (d *down) WriteInterim(int, *exchange.Header, []byte) error { return nil }

func (d *down) Tunnel(*exchange.Exchange) (exchange.Tunnel, error) {
	return nil, errors.New("a subrequest does not change its protocol")
}

func (d *down) WriteHead(x *exchange.Exchange, part []byte, last bool) error {
	x.Responded = true
	if x.Response.Local {
		return nil
	}
	return d.WriteBody(x, part, last)
}

// takeHead comes before the body is read: an error there makes the response one of the gateway's own.
func (d *down) takeHead(res *exchange.Response) {
	d.response.Status = res.Status
	for name, value := range res.Header.All() {
		d.response.Header.Add(strings.Clone(name), strings.Clone(value))
	}
}

func (d *down) WriteBody(x *exchange.Exchange, part []byte, last bool) error {
	room := d.most - d.got
	d.got += len(part)
	if d.tooLong = len(part) > room; d.tooLong {
		part = part[:room]
	}
	if !d.discards {
		d.response.Body = append(d.response.Body, part...)
	}
	if d.tooLong {
		return errTooLong
	}
	if last {
		for name, value := range x.Response.Trailers().All() {
			d.response.Trailer.Add(strings.Clone(name), strings.Clone(value))
		}
	}
	return nil
}

// Watch implements exchange.Downstream: a is aborted when the context is over.
func (d *down) Watch(a exchange.Aborter) {
	if d.stop != nil {
		d.stop()
		d.stop = nil
	}
	d.mu.Lock()
	d.by = a
	d.mu.Unlock()
	if a == nil {
		return
	}
	d.stop = context.AfterFunc(d.ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.by == a {
			a.Abort()
		}
	})
}
