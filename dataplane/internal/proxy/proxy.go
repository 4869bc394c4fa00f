// Package proxy takes an exchange through its life: match a route, run the request phase, send it to an endpoint, run the response
// phase, stream the bodies, count. Each of these is done elsewhere; here is only the order.
package proxy

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/accesslog"
	"gateway.internal/dataplane/internal/certificate"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/forwarded"
	"gateway.internal/dataplane/internal/grpcweb"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/dataplane/internal/target"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/shared/fault"
)

// maxConnectAttempts is how many endpoints are tried when connections can't be opened. Nothing has been sent then, so any request
// may go elsewhere.
const maxConnectAttempts = 3

// Proxy serves exchanges by the runtime's snapshot. It implements http1.Handler.
type Proxy struct {
	runtime *runtime.Runtime
	nowhere *telemetry.Route // counts what no route matched
	log     *accesslog.Log
	paths   *target.Rules
	// upgrades counts the exchanges that have gone over to another protocol.
	upgrades *telemetry.Upgrades
}

// New returns a proxy that brings paths into the form that the rules want, and writes to an access log, unless that is nil.
func New(rt *runtime.Runtime, counters *telemetry.Registry, paths *target.Rules, log *accesslog.Log) *Proxy {
	return &Proxy{runtime: rt, nowhere: counters.Route(telemetry.Key{}), paths: paths, log: log, upgrades: counters.Upgrades()}
}

// Serve takes x from its head to the last byte of its response.
func (p *Proxy) Serve(x *exchange.Exchange) {
	done := telemetry.Done{Method: telemetry.MethodOf(x.Request.Method)}
	count := p.nowhere
	snapshot := p.runtime.Snapshot()
	if x.Response.Local { // the codec has refused the request
		done.ResponseBytes = writeLocal(x)
	} else {
		x.SetID()
		forwarded.Apply(x)
		x.RPC = x.Request.RPC()
		count = p.serve(snapshot, x, &done)
	}
	done.Status, done.Code = x.Response.Status, x.Response.Code
	duration := x.Tick().Sub(x.Start)
	if done.Duration = duration; x.Response.Tunnel {
		done.Duration = done.Upstream // how long clients leave a tunnel open says nothing about the service
	}
	count.Done(x.Shard, &done)
	if p.log != nil {
		p.write(snapshot, x, &done, duration)
	}
}

func (p *Proxy) write(snapshot *runtime.Snapshot, x *exchange.Exchange, done *telemetry.Done, duration time.Duration) {
	r := accesslog.Record{Exchange: x, Duration: duration, Upstream: done.Upstream, ResponseBytes: done.ResponseBytes, RequestBytes: done.RequestBytes}
	if snapshot != nil {
		r.Revision = snapshot.Revision
	}
	p.log.Write(&r)
}

func (p *Proxy) serve(snapshot *runtime.Snapshot, x *exchange.Exchange, done *telemetry.Done) *telemetry.Route {
	if snapshot == nil {
		x.Fail(fault.NotReady, "this node has no configuration yet")
		done.ResponseBytes = writeLocal(x)
		return p.nowhere
	}
	req := &x.Request
	if reason := p.normalise(x); reason != "" {
		x.Fail(fault.BadRequest, reason)
		done.ResponseBytes = writeLocal(x)
		return p.nowhere
	}
	x.Match.Method, x.Match.Host, x.Match.Path, x.Match.RawQuery, x.Match.Header = req.Method, req.Host, req.Path, req.RawQuery, &req.Header
	rule := snapshot.Table.Match(&x.Match, &x.Params)
	if snapshot.Certificates.Asks() && misdirected(snapshot.Certificates, x) && (rule == nil || !rule.Value.(*runtime.Route).Challenge) {
		x.Fail(fault.Misdirected, "this host asks for another client certificate than the connection has proved")
		done.ResponseBytes = writeLocal(x)
		return p.nowhere
	}
	if rule == nil {
		failUnmatched(x)
		done.ResponseBytes = writeLocal(x)
		return p.nowhere
	}
	route := rule.Value.(*runtime.Route)
	b := route.Choose()
	x.Route = route.Name
	if b.Service != nil {
		x.Service = b.Service.Name()
	}
	if b.Limits.Timeout > 0 {
		x.Deadline = x.Start.Add(b.Limits.Timeout)
	}
	if x.RPC != exchange.NoRPC {
		limitRPC(x)
	}
	x.Down.LimitBody(b.Limits.MaxRequestBytes)
	if req.ContentLength > b.Limits.MaxRequestBytes {
		x.Fail(fault.RequestTooLarge, "the body is larger than the policy allows")
		done.ResponseBytes = writeLocal(x)
		return b.Count
	}
	if req.Upgrade != "" && !admit(x, &b.Limits) {
		done.ResponseBytes = writeLocal(x)
		return b.Count
	}
	verdict, at := b.Chain.Request(x)
	if verdict == exchange.Stop || route.Answer(x) {
		b.Chain.Response(x, at)
		done.ResponseBytes = writeLocal(x)
		return b.Count
	}
	if b.Service == nil {
		x.Fail(fault.ServiceNotFound, "the route's service is not there")
		b.Chain.Response(x, at)
		done.ResponseBytes = writeLocal(x)
		return b.Count
	}
	route.Rewrite(x)
	if x.Forward.Path != "" && !p.normaliseForward(x) {
		b.Chain.Response(x, at)
		done.ResponseBytes = writeLocal(x)
		return b.Count
	}
	if x.RPC > exchange.GRPC && b.Service.SpeaksGRPC() {
		grpcweb.Translate(x)
	}
	a := attempt{x: x, service: b.Service, timeout: b.Service.ResponseTimeout()}
	a.beginCall(&b.Limits)
	if !a.send() || !a.agreed() {
		b.Chain.Response(x, at)
		done.ResponseBytes = writeLocal(x)
		a.finish()
		return b.Count
	}
	done.Upstream = a.answered.Sub(x.Start)
	b.Chain.Response(x, at)
	if x.Response.Tunnel {
		p.tunnel(&a, b.Limits.StreamIdleOr(), done)
	} else {
		a.beginStream(&b.Limits)
		done.ResponseBytes = a.stream()
	}
	a.finish()
	return b.Count
}

// limitRPC brings the time that a gRPC client waits and the policy's together: the shorter one is in force, here and at the service.
func limitRPC(x *exchange.Exchange) {
	wants := x.Request.RPCTimeout()
	switch {
	case wants > 0 && (x.Deadline.IsZero() || x.Start.Add(wants).Before(x.Deadline)):
		x.Deadline = x.Start.Add(wants)
	case !x.Deadline.IsZero():
		x.Request.SetRPCTimeout(x.Deadline.Sub(x.Start))
	}
}

// misdirected reports whether the host of a request asks for client certificates in another way than the host did that the connection
// was opened for: who has proved something to that one, or nothing at all, has proved nothing here (RFC 9110 section 7.4).
func misdirected(certificates *certificate.Set, x *exchange.Exchange) bool {
	policy := certificates.Policy(x.Request.Host)
	if x.TLS == nil {
		return policy.Required
	}
	return policy.ID != (certificate.Policy{}).ID && policy.ID != x.TLS.Policy
}

// normalise brings the request's path into its one form, which is what is matched, what rules are applied to and what is forwarded.
// It returns the reason why that can't be.
func (p *Proxy) normalise(x *exchange.Exchange) (refused string) {
	switch x.Request.Path {
	case "*":
		return "the request target * is for no route"
	case "": // of a CONNECT
		return ""
	}
	x.Request.Path, x.Memory[0], refused = p.paths.Apply(x.Request.Path, x.Memory[0])
	return refused
}

// normaliseForward does the same with a path that a rewrite has put together: its parts are as they should be, but a part such as ".."
// of a segment may have become a whole one.
func (p *Proxy) normaliseForward(x *exchange.Exchange) bool {
	path, memory, refused := p.paths.Apply(x.Forward.Path, x.Memory[1])
	x.Forward.Path, x.Memory[1] = path, memory
	if refused != "" {
		x.Fail(fault.BadRequest, "once it is rewritten, "+refused)
	}
	return refused == ""
}

// writeLocal sends a response of the gateway's own and returns its body's size.
func writeLocal(x *exchange.Exchange) int64 {
	if opensTunnel(x) {
		x.Fail(fault.NotImplemented, "this route does not speak "+x.Request.Upgrade)
	}
	_ = x.Down.WriteHead(x, x.Response.Body, true)
	return int64(len(x.Response.Body))
}

// attempt is one exchange with an endpoint, and, where that is allowed, another one instead.
type attempt struct {
	x        *exchange.Exchange
	service  *upstream.Service
	timeout  time.Duration
	endpoint *upstream.Endpoint
	conn     upstream.Conn
	answered time.Time
	streams  bool // the response goes on for as long as something moves

	part   []byte // the request's body as far as it came with the head
	whole  bool
	upload *upload
}

// upload is a request body on its way, in a goroutine of its own: the response may come before it is over.
type upload struct {
	done   chan struct{}
	read   atomic.Bool // the client has sent all of it
	sent   bool        // the endpoint was sent all of it; valid when done is closed
	err    error       // valid when done is closed, or failed is set
	failed atomic.Bool // err is the upload's own: it has broken the attempt off itself
}

// send gets the response's head, and reports false when x has a response of the gateway's own instead.
func (a *attempt) send() bool {
	var err error
	if a.part, a.whole, err = a.x.Down.BufferedBody(); err != nil {
		a.fail(err)
		return false
	}
	fresh := false
	for tried := 1; ; tried++ {
		a.endpoint = a.service.Pick(a.endpoint)
		if a.endpoint == nil {
			a.x.Fail(fault.NoHealthyEndpoints, "the service has no healthy endpoint")
			return false
		}
		a.x.Endpoint = a.endpoint.Address()
		a.endpoint.State.Add(1)
		if a.conn, err = a.acquire(fresh); err != nil {
			a.endpoint.State.Add(-1)
			late := !a.x.Deadline.IsZero() && !time.Now().Before(a.x.Deadline)
			if tried < maxConnectAttempts && !errors.Is(err, upstream.ErrTooManyConnections) && !late {
				continue
			}
			a.endpoint = nil
			a.fail(err)
			return false
		}
		used := a.conn.Used()
		a.x.Down.Watch(a.conn)
		started, err := a.conn.Send(a.x, a.part, a.whole, a.timeout)
		if err == nil && !a.whole {
			a.begin()
			started, err = a.conn.Answer(a.x, a.timeout)
		}
		if err == nil {
			a.answered = a.x.Tick()
			return true
		}
		if uploadErr := a.stopUpload(); uploadErr != nil {
			err = uploadErr
		}
		a.release()
		// An endpoint may close an idle connection just when a request is sent on it. Nothing of a response came, so a request
		// that may be repeated is sent again, on a new connection (RFC 9110 section 9.2.2). One that the endpoint has not looked at, as
		// it says itself, is sent again whatever it is.
		again := used && !fresh && !errors.Is(err, os.ErrDeadlineExceeded) && repeatable(a.x.Request.Method)
		if a.whole && !started && (again || errors.Is(err, upstream.ErrNotProcessed) && tried < maxConnectAttempts) {
			fresh = true
			continue
		}
		a.fail(err)
		return false
	}
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
func (a *attempt) fail(err error) {
	var own *fault.Error
	switch {
	case a.x.Down.Gone():
		a.x.Fail(fault.ClientClosed, "the client broke off")
	case errors.As(err, &own):
		a.x.Fail(own.Code, own.Reason)
	case errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		a.x.Fail(fault.UpstreamTimeout, "the service did not answer in time")
	case errors.Is(err, errClientGone):
		a.x.Fail(fault.BadRequest, "the request's body broke off")
		a.x.Response.Code = fault.ClientClosed
	default:
		a.x.Fail(fault.UpstreamUnavailable, "the service can't be reached or broke off")
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// begin starts sending the rest of the request's body.
func (a *attempt) begin() {
	u := &upload{done: make(chan struct{})}
	a.upload = u
	conn, x, timeout, left := a.conn, a.x, a.timeout, a.x.Request.ContentLength-int64(len(a.part))
	go func() {
		defer close(u.done)
		if u.err = u.sendBody(conn, x, timeout, left); u.err != nil {
			// The endpoint must not take what came for the whole, and the exchange must not wait for its answer.
			u.failed.Store(true)
			conn.Abort()
		}
	}()
}

var errClientGone = errors.New("the client broke off")

// sendBody sends what is left of the body; left is how much that is, where it is known.
func (u *upload) sendBody(conn upstream.Conn, x *exchange.Exchange, timeout time.Duration, left int64) error {
	for {
		part, err := x.Down.NextBody()
		if left -= int64(len(part)); err == io.EOF || err == nil && left == 0 {
			u.read.Store(true)
		}
		if err == io.EOF {
			u.sent = conn.SendBody(x, nil, true, timeout) == nil
			return nil
		}
		if err != nil {
			var own *fault.Error
			if errors.As(err, &own) {
				return own
			}
			return errClientGone
		}
		if conn.SendBody(x, part, false, timeout) != nil {
			return nil // what the endpoint has to say, if anything, is in its response
		}
	}
}

// lastPart is how long a complete response waits for the end of an upload whose last part is on its way.
const lastPart = 10 * time.Millisecond

// settle ends the upload, if there is one, since the response is complete.
func (a *attempt) settle() {
	u := a.upload
	if u == nil {
		return
	}
	if u.read.Load() {
		// The endpoint has answered before this goroutine's other half could say that it was done.
		timer := time.AfterFunc(lastPart, a.conn.Abort)
		<-u.done
		if timer.Stop() && u.sent {
			a.conn.Sent()
		}
		a.upload = nil
		return
	}
	_ = a.stopUpload()
}

// stopUpload ends an upload and returns why it failed, if it was the client's fault.
func (a *attempt) stopUpload() error {
	u := a.upload
	if u == nil {
		return nil
	}
	select {
	case <-u.done:
	default:
		failed := u.failed.Load()
		a.x.Down.CancelBody()
		a.conn.Abort()
		<-u.done
		if !failed {
			u.err = nil
		}
	}
	a.upload = nil
	return u.err
}

// stream sends the response and returns how many bytes of body it had.
func (a *attempt) stream() int64 {
	x := a.x
	part, whole, err := a.conn.BufferedBody(x)
	if whole {
		a.settle() // so that the client is told with the head when the rest of its body is not going to be read
	}
	if err == nil {
		err = x.Down.WriteHead(x, part, whole)
	} else {
		_ = a.stopUpload()
		a.fail(err)
		return writeLocal(x)
	}
	sent := int64(len(part))
	if err == nil && !whole {
		moved, ofClient, moveErr := a.conn.MoveBody(x, a.timeout)
		sent += moved
		if ofClient {
			err = moveErr
		} else if moveErr != nil {
			return a.breakOff(moveErr, sent)
		}
	}
	for err == nil && !whole {
		part, err = a.nextPart()
		switch {
		case err == io.EOF:
			whole = true
			err = x.Down.WriteBody(x, nil, true)
		case err != nil:
			return a.breakOff(err, sent)
		default:
			sent += int64(len(part))
			last := a.conn.BodyOver()
			if err = x.Down.WriteBody(x, part, last); last {
				whole = true
			}
		}
	}
	if err != nil {
		x.Response.Code = fault.ClientClosed
		x.Down.Abort()
	}
	return sent
}

// breakOff ends a response that the service did not complete.
func (a *attempt) breakOff(err error, sent int64) int64 {
	res := &a.x.Response
	res.Code = fault.UpstreamUnavailable
	switch {
	case a.x.Down.Gone():
		res.Code = fault.ClientClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		res.Code = fault.UpstreamTimeout
	}
	if a.x.RPC == exchange.NoRPC || res.ContentLength >= 0 {
		a.x.Down.Abort()
		return sent
	}
	// A gRPC client is told by trailers, as by the service itself.
	_ = a.stopUpload()
	res.Trailer.Reset()
	a.x.AddStatus(&res.Trailer, res.Code, "the service broke off, or the time was over, before the response was complete")
	if a.x.Down.WriteBody(a.x, nil, true) != nil {
		a.x.Down.Abort()
	}
	return sent
}

// finish gives the connection back.
func (a *attempt) finish() {
	if a.conn == nil {
		return
	}
	a.settle()
	a.release()
}

func (a *attempt) release() {
	a.x.Down.Watch(nil)
	a.endpoint.State.Add(-1)
	a.endpoint.Release(a.conn, a.answered)
	a.conn = nil
}
