package proxy

import (
	"sync"

	"gateway.internal/dataplane/internal/certificate"
	"gateway.internal/dataplane/internal/errorpage"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/forwarded"
	"gateway.internal/dataplane/internal/grpcweb"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/fault"
)

// journey is one exchange on its way through the proxy: what one step has found out and a later one needs. It outlives the step of the loop that begins it,
// where there is one.
type journey struct {
	p        *Proxy
	x        *exchange.Exchange
	snapshot *runtime.Snapshot
	// count counts the exchange, with what done says.
	count *telemetry.Route
	done  telemetry.Done
	// route and backend are the ones that were found, and at is how far the request phase of the backend's chain came.
	route   *runtime.Route
	backend *runtime.Backend
	at      pipeline.Progress
	attempt attempt
	// host is the client's connection and client the service's, where they are served in a loop; started and broken are what sending the request there
	// came to.
	host    http1.LoopConn
	client  *http1.ClientConn
	started bool
	broken  error
	// back tells that it is on its way back, with the response.
	back bool
}

// journeys are pooled: most of one is kept from the request to the response.
var journeys = sync.Pool{New: func() any { return new(journey) }}

// begin takes an exchange from its codec.
func (p *Proxy) begin(x *exchange.Exchange) *journey {
	j := journeys.Get().(*journey)
	j.p, j.x, j.snapshot, j.count = p, x, p.runtime.Snapshot(), p.nowhere
	j.done.Method = telemetry.MethodOf(x.Request.Method)
	return j
}

// end counts the exchange, whose last byte has been sent.
func (j *journey) end() {
	x, p := j.x, j.p
	j.done.Status, j.done.Code = x.Response.Status, x.Response.Code
	duration := x.Tick().Sub(x.Start)
	if j.done.Duration = duration; x.Response.Tunnel {
		j.done.Duration = j.done.Upstream // how long clients leave a tunnel open says nothing about the service
	}
	j.count.Done(x.Shard, &j.done)
	if p.log != nil {
		p.write(j.snapshot, x, &j.done, duration)
	}
	*j = journey{}
	journeys.Put(j)
}

// answer sends a response of the gateway's own; false is what the step returns that does so: the service is not asked.
func (j *journey) answer() bool {
	j.done.ResponseBytes = writeLocal(j.x, j.pages())
	return false
}

// pages are what the client is shown of errors.
func (j *journey) pages() *errorpage.Pages {
	switch {
	case j.backend != nil:
		return j.backend.Errors
	case j.snapshot != nil:
		return j.snapshot.Errors
	}
	return nil
}

// refuse is answer for an error.
func (j *journey) refuse(code fault.Code, reason string) bool {
	j.x.Fail(code, reason)
	return j.answer()
}

// find finds the route and the backend for the exchange. Where it reports false, the exchange has been answered.
func (j *journey) find() bool {
	x, snapshot := j.x, j.snapshot
	if x.Response.Local { // the codec has refused the request
		return j.answer()
	}
	x.SetID(j.p.headers.RequestIDs)
	forwarded.Apply(x)
	x.Told.Via = j.p.via.Text(x.Request.Version)
	x.RPC = x.Request.RPC()
	switch {
	case snapshot == nil:
		return j.refuse(fault.NotReady, "this node has no configuration yet")
	case x.Request.HasVia && j.p.via.Loops(&x.Request.Header):
		return j.refuse(fault.LoopDetected, "the request has passed this node too often: a service leads back to it")
	case x.Request.Path == "*":
		return j.options(anyMethod)
	}
	req := &x.Request
	length, sent := req.TargetBytes(), req.Path
	x.Match.Method, x.Match.Host, x.Match.RawQuery, x.Match.Header = req.Method, req.Host, req.RawQuery, &req.Header
	x.Match.Scheme, x.Match.Port = x.Scheme, x.Peer.Port
	rule, reason := j.p.match(snapshot, x)
	if req.Method == "OPTIONS" {
		rule, reason = j.p.preflight(snapshot, x, sent, rule, reason)
	}
	if reason != "" {
		return j.refuse(fault.BadRequest, reason)
	}
	if snapshot.Certificates.Asks() && misdirected(snapshot.Certificates, x) && (rule == nil || !rule.Value.(*runtime.Route).Challenge) {
		return j.refuse(fault.Misdirected, "this host asks for another client certificate than the connection has proved")
	}
	if rule == nil {
		failUnmatched(x)
		return j.answer()
	}
	j.route = rule.Value.(*runtime.Route)
	j.backend = j.route.Choose()
	j.count = j.backend.Count
	x.Route = j.route.Name
	if most := j.route.MaxTargetBytes; most > 0 && length > most {
		return j.refuse(fault.URITooLong, "the request target is longer than the route allows")
	}
	if j.backend.Service != nil {
		x.Service = j.backend.Service.Name()
	}
	return true
}

// prepare applies the limits, runs the request phase and makes of the request what the service is to see. Where it reports false, the exchange has been
// answered.
func (j *journey) prepare() bool {
	x, b := j.x, j.backend
	req := &x.Request
	if b.Limits.Timeout > 0 {
		x.Deadline = x.Start.Add(b.Limits.Timeout)
	}
	if x.RPC != exchange.NoRPC {
		limitRPC(x)
	}
	x.BodyLimit = b.Limits.MaxRequestBytes
	x.Down.LimitBody(x.BodyLimit)
	if req.Upgrade != "" && !admit(x, &b.Limits) {
		return j.answer()
	}
	if why := j.p.headers.applyNames(x, b); why != nil {
		return j.refuse(why.Code, why.Reason)
	}
	verdict, at := b.Chain.Request(x)
	j.at = at
	if b.Chain.Waits() {
		x.Tick()
	}
	if verdict == exchange.Continue && req.ContentLength > b.Limits.MaxRequestBytes { // after the chain, which lets pages of other origins read it
		x.Fail(fault.RequestTooLarge, "the body is larger than the policy allows")
		verdict = exchange.Stop
	}
	if verdict == exchange.Stop || j.route.Answer(x) {
		b.Chain.Response(x, at)
		return j.answer()
	}
	if b.Service == nil {
		x.Fail(fault.ServiceNotFound, "the route's service is not there")
		b.Chain.Response(x, at)
		return j.answer()
	}
	if req.Method == "OPTIONS" && !j.forwardsOn() {
		b.Chain.Response(x, at)
		return j.answer()
	}
	j.route.Rewrite(x)
	if x.Forward.Path != "" && !j.normaliseForward() {
		b.Chain.Response(x, at)
		return j.answer()
	}
	switch {
	case x.RPC <= exchange.GRPC:
	case b.Service.SpeaksGRPC():
		grpcweb.Translate(x)
	default:
		grpcweb.Pass(x)
	}
	j.attempt.x, j.attempt.service, j.attempt.timeout, j.attempt.pages = x, b.Service, b.Service.ResponseTimeout(), b.Errors
	j.attempt.beginCall(&b.Limits)
	return true
}

// applyNames applies the rule for odd names to a request for a backend.
func (s *HeaderSettings) applyNames(x *exchange.Exchange, b *runtime.Backend) *fault.Error {
	rule := s.Names
	if b.Service != nil && b.Service.SpeaksGRPC() {
		rule = exchange.KeepOddNames
	}
	return x.Request.ApplyNames(rule)
}

// deliver takes the exchange from the backend that was found to its end.
func (j *journey) deliver() {
	if j.prepare() {
		j.send()
	}
}

// send asks the service, and answers the client.
func (j *journey) send() {
	if j.attempt.send() {
		j.respond()
	} else {
		j.respondLocally()
	}
}

// respond sends the service's response.
func (j *journey) respond() {
	x, a, b := j.x, &j.attempt, j.backend
	if !a.agreed() {
		j.respondLocally()
		return
	}
	j.done.Upstream = a.answered.Sub(x.Start)
	j.route.Reverse(x)
	b.Chain.Response(x, j.at)
	if x.Response.Tunnel {
		j.p.tunnel(a, b.Limits.StreamIdleOr(), &j.done)
	} else {
		a.beginStream(&b.Limits)
		j.done.ResponseBytes = a.stream()
	}
	a.finish()
}

// respondLocally sends the gateway's own response instead of the service's.
func (j *journey) respondLocally() {
	j.backend.Chain.Response(j.x, j.at)
	j.done.ResponseBytes = writeLocal(j.x, j.pages())
	j.attempt.finish()
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

// writeLocal sends a response of the gateway's own and returns its body's size.
func writeLocal(x *exchange.Exchange, pages *errorpage.Pages) int64 {
	if opensTunnel(x) {
		x.Fail(fault.NotImplemented, "this route does not speak "+x.Request.Upgrade)
	}
	pages.Apply(x)
	_ = x.Down.WriteHead(x, x.Response.Body, true)
	return int64(len(x.Response.Body))
}
