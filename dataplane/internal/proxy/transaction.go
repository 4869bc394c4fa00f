package proxy

import (
	"strconv"
	"time"

	"gateway.internal/dataplane/internal/attempt"
	"gateway.internal/dataplane/internal/certificate"
	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/errorpage"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/forwarded"
	"gateway.internal/dataplane/internal/grpcweb"
	"gateway.internal/dataplane/internal/injection"
	"gateway.internal/dataplane/internal/mirror"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/ratelimit"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/routing"
)

// transaction is one exchange on its way through the proxy: what one step has found out and a later one needs. It
// outlives the step of the loop that begins it, where there is one.
type transaction struct {
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
	limited bool // what the policies say has been applied
	// admitted tells that the exchange counts for the node's limit, as one of a priority.
	admitted bool
	priority config.Priority
	// clientID is what the client is told, to be known by from now on; 0: nothing.
	clientID routing.ClientID
	// verdict is what the request phases came to, once decided.
	verdict exchange.Verdict
	decided bool
	// rates are what limits have said, and taken; nil: nothing was asked.
	rates *ratelimit.Taken
	// injected is the fault that is drawn, once faulted.
	injected injection.Drawn
	faulted  bool
	// mirrored is the copy of the request that another service gets; nil: none.
	mirrored *mirror.Copy
	attempt  attempt.Attempts
	// host is the client's connection and client the service's, where they are served in a loop; started and broken are
	// what sending the request there came to.
	host    codec.LoopConn
	client  upstream.LoopConn
	started bool
	broken  error
	// back tells that it is on its way back, with the response.
	back bool
	// down is the client's side as the codec gives it: steps may have put something before it.
	down exchange.Downstream
}

// begin takes an exchange from its codec. The transaction's memory stays with the exchange's, in Handler.
func (p *Proxy) begin(x *exchange.Exchange) *transaction {
	t, _ := x.Handler.(*transaction)
	if t == nil {
		t = new(transaction)
	}
	x.Handler = nil // whatever breaks, what it is left in is not used again
	t.p, t.x, t.snapshot, t.count, t.down = p, x, p.runtime.Snapshot(), p.nowhere, x.Down
	t.done.Method = telemetry.MethodOf(x.Request.Method)
	if t.snapshot != nil {
		t.done.Version = t.snapshot.Traffic
	}
	return t
}

// end counts the exchange, whose last byte has been sent.
func (t *transaction) end() {
	defer t.guardEnd()
	t.leave()
	t.mirrored.End()
	x, p := t.x, t.p
	t.rates.Settle(x, x.Response.Code, t.attempt.Tried)
	t.rates.End()
	t.done.Status, t.done.Code = x.Response.Status, x.Response.Code
	duration := x.Tick().Sub(x.Start)
	if t.done.Duration = duration; x.Response.Tunnel {
		t.done.Duration = t.done.Upstream // how long clients leave a tunnel open says nothing about the service
	}
	t.count.Done(x.Shard, &t.done)
	if t.backend != nil && t.backend.Chain != nil {
		t.backend.Chain.End(x, &t.at, &pipeline.Outcome{
			Status: t.done.Status, Code: t.done.Code, Tried: t.attempt.Tried, Duration: duration, Upstream: t.done.Upstream,
			RequestBytes: t.done.RequestBytes, ResponseBytes: t.done.ResponseBytes,
		})
	}
	if p.log != nil {
		p.write(t.snapshot, x, &t.done, duration, t.attempt.Tried)
	}
	*t = transaction{}
	x.Handler = t
}

// answer sends a response of the gateway's own; false is what the step returns that does so: the service is not asked.
func (t *transaction) answer() bool {
	t.done.ResponseBytes = attempt.WriteLocal(t.x, t.pages())
	return false
}

// pages are what the client is shown of errors.
func (t *transaction) pages() *errorpage.Pages {
	switch {
	case t.backend != nil:
		return t.backend.Errors
	case t.snapshot != nil:
		return t.snapshot.Errors
	}
	return nil
}

// refuse is answer for an error.
func (t *transaction) refuse(code fault.Code, reason string) bool {
	t.x.Fail(code, reason)
	return t.answer()
}

func (t *transaction) refuseWith(why *fault.Error) bool { return t.refuse(why.Code, why.Reason) }

// find finds the route and the backend for the exchange. Where it reports false, the exchange has been answered.
func (t *transaction) find() bool {
	x, snapshot := t.x, t.snapshot
	if x.Response.Local { // the codec has refused the request
		return t.answer()
	}
	x.SetID(t.p.headers.RequestIDs)
	forwarded.Apply(x)
	x.Forwarded.Via = t.p.via.Text(x.Request.Version)
	x.RPC = x.Request.RPC()
	switch {
	case snapshot == nil:
		return t.refuse(fault.NotReady, "this node has no configuration yet")
	case x.Request.HasVia && t.p.via.Loops(&x.Request.Header):
		return t.refuse(fault.LoopDetected, "the request has passed this node too often: a service leads back to it")
	case x.Request.Path == "*":
		return t.options(routing.AnyMethod)
	}
	req := &x.Request
	length := req.TargetBytes()
	x.Match.Method, x.Match.Host, x.Match.RawQuery, x.Match.Header = req.Method, req.Host, req.RawQuery, &req.Header
	x.Match.Scheme, x.Match.Port = x.Scheme, x.Peer.Port
	found := snapshot.Find(&x.Match, req.Path, &x.Params, &x.Memory)
	if found.Refused != "" {
		return t.refuse(fault.BadRequest, found.Refused)
	}
	req.Path = found.Path
	rule := found.Rule
	if snapshot.Certificates.Asks() && misdirected(snapshot.Certificates, x) && (rule == nil || !rule.Value.(*runtime.Route).Challenge) {
		return t.refuseWith(routing.ErrMisdirected)
	}
	if rule == nil {
		return t.refuseWith(routing.Unmatched(req.Method))
	}
	t.route = rule.Value.(*runtime.Route)
	if found.Preflight {
		x.RouteMethods = t.route.Methods
	}
	if t.backend = t.route.Undecided; t.backend == nil {
		t.choose()
	} else {
		t.count = t.backend.Count
	}
	x.Route = t.route.Name
	if why := t.route.Admits(length); why != nil {
		return t.refuseWith(why)
	}
	if t.backend.Service != nil {
		x.Service = t.backend.Service.Name()
	}
	return t.admit()
}

// choose chooses the backend.
func (t *transaction) choose() {
	t.backend, t.clientID = t.route.Choose(t.x, t.p.chance.share)
	t.count = t.backend.Count
}

// settle chooses the backend once the global pipelines have run, where the choice depends on what they find out. Those
// of the backend that is chosen go on from there: its chain begins with the same ones.
func (t *transaction) settle() phase {
	x, b := t.x, t.backend
	if !t.limited {
		if t.limited = true; !t.limitUndecided() {
			return finished
		}
	}
	switch b.Chain.Request(x, &t.at) {
	case exchange.Later:
		return later
	case exchange.Stop:
		t.verdict = exchange.Stop
		if x.InLoop && b.Chain.Works() && t.answerBytes() > longAnswer {
			t.decided = true
			return later
		}
		b.Chain.Response(x, &t.at)
		t.answer()
		return finished
	}
	t.choose()
	t.limited = false
	if t.backend.Service != nil {
		x.Service = t.backend.Service.Name()
	}
	return ready
}

// phase is what a part of a transaction came to.
type phase uint8

const (
	ready    phase = iota // it goes on
	finished              // the exchange has been answered
	later                 // it has to wait, and may not: see exchange.Later
)

// longAnswer is the longest answer of the gateway's own, in bytes, that a step which works at bodies gets in a loop.
const longAnswer = 8 << 10

// prepare applies the limits, runs the request phases and makes of the request what the service is to see.
func (t *transaction) prepare() phase {
	x := t.x
	if t.backend == t.route.Undecided && !t.decided {
		if p := t.settle(); p != ready {
			return p
		}
	}
	b := t.backend
	if !t.limited {
		if t.limited = true; !t.limit() {
			return finished
		}
	}
	if !t.decided {
		if t.verdict = b.Chain.Request(x, &t.at); t.verdict == exchange.Later {
			return later
		}
		t.decided = true
		if b.Chain.Waits() {
			x.Tick()
		}
		if t.admitted && t.verdict == exchange.Continue && !t.admitConsumer() {
			t.verdict = exchange.Stop
		}
		// After the chain, which lets pages of other origins read it.
		if t.verdict == exchange.Continue && x.Request.ContentLength > b.Limits.MaxRequestBytes {
			x.Fail(fault.RequestTooLarge, "the body is larger than the policy allows")
			t.verdict = exchange.Stop
		}
		if x.InLoop && b.Chain.Works() && t.answerBytes() > longAnswer {
			return later
		}
	}
	if b.RateLimits != nil && t.verdict == exchange.Continue && t.rates == nil {
		if t.rates, t.verdict = b.RateLimits.Take(x); t.verdict == exchange.Later {
			t.verdict = exchange.Continue
			return later
		}
		if x.InLoop && b.Chain.Works() && t.answerBytes() > longAnswer {
			return later
		}
	}
	if b.Fault != nil && t.verdict == exchange.Continue && t.inject() == later {
		return later
	}
	if t.verdict == exchange.Stop || t.route.Answer(x) || !t.forward() {
		t.rates.Tell(x)
		b.Chain.Response(x, &t.at)
		t.answer()
		return finished
	}
	return ready
}

// answerBytes returns the length of the gateway's own answer, as far as it is known: a page of errors has any length.
func (t *transaction) answerBytes() int {
	switch {
	case t.verdict != exchange.Stop:
		return t.route.AnswerBytes()
	case t.x.Response.Code != "" && t.pages() != nil:
		return longAnswer + 1
	}
	return len(t.x.Response.Body)
}

// limitUndecided applies what holds whichever backend is chosen. Where it reports false, the exchange has been
// answered.
func (t *transaction) limitUndecided() bool {
	t.bound()
	if why := t.p.headers.applyNames(t.x, t.backend); why != nil {
		return t.refuseWith(why)
	}
	return true
}

// bound limits the time and the request's body.
func (t *transaction) bound() {
	x, b := t.x, t.backend
	if b.Limits.Timeout > 0 {
		x.Deadline = x.Start.Add(b.Limits.Timeout)
	}
	if x.RPC != exchange.NoRPC {
		limitRPC(x)
	}
	if b.Limits.DeadlineHeader != "" {
		limitAsTold(x, &b.Limits)
	}
	x.BodyLimit = b.Limits.MaxRequestBytes
	x.Down.LimitBody(x.BodyLimit)
}

// limit applies what the policies say. Where it reports false, the exchange has been answered.
func (t *transaction) limit() bool {
	t.bound()
	x, b := t.x, t.backend
	if x.Request.Upgrade != "" && !admit(x, &b.Limits) {
		return t.answer()
	}
	if why := t.p.headers.applyNames(x, b); why != nil {
		return t.refuseWith(why)
	}
	return true
}

// forward makes of the request what the service is to see. Where it reports false, x has a response.
func (t *transaction) forward() bool {
	x, b := t.x, t.backend
	if b.Service == nil {
		x.Fail(fault.ServiceNotFound, "the route's service is not there")
		return false
	}
	if x.Request.Method == "OPTIONS" && !t.forwardsOn() {
		return false
	}
	if !t.route.Forward(x, t.snapshot.Paths) {
		return false
	}
	switch {
	case x.RPC <= exchange.GRPC:
	case b.Service.SpeaksGRPC():
		grpcweb.Translate(x)
	default:
		grpcweb.Pass(x)
	}
	t.attempt.Exchange, t.attempt.Service, t.attempt.Timeout, t.attempt.Pages = x, b.Service, b.Service.ResponseTimeout(), b.Errors
	t.attempt.Panics = t.p.panics
	t.attempt.HeadTimeout, t.attempt.DeadlineHeader = b.Limits.HeadTimeout, b.Limits.DeadlineHeader
	t.attempt.Retries = b.Retries
	t.attempt.BeginCall(&b.Limits)
	t.mirrored = t.route.Mirror.Begin(x, t.p.chance.fraction)
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

// limitRPC brings the time that a gRPC client waits and the policy's together: the shorter one is in force, here and at
// the service.
func limitRPC(x *exchange.Exchange) {
	wants := x.Request.RPCTimeout()
	switch {
	case wants > 0 && (x.Deadline.IsZero() || x.Start.Add(wants).Before(x.Deadline)):
		x.Deadline = x.Start.Add(wants)
	case !x.Deadline.IsZero():
		x.Request.SetRPCTimeout(x.Deadline.Sub(x.Start))
	}
}

// limitAsTold takes the field away by which a client says how long it waits, in milliseconds, and holds to it where the
// policy has that: downwards only.
func limitAsTold(x *exchange.Exchange, limits *config.Limits) {
	text, has := x.Request.Header.Lookup(limits.DeadlineHeader)
	if !has {
		return
	}
	if ms, err := strconv.ParseUint(text, 10, 31); limits.AcceptDeadline && err == nil {
		if at := x.Start.Add(time.Duration(ms) * time.Millisecond); x.Deadline.IsZero() || at.Before(x.Deadline) {
			x.Deadline = at
		}
	}
	x.Request.Header.Del(limits.DeadlineHeader)
}

// misdirected reports whether the host of a request asks for client certificates in another way than the host did that
// the connection was opened for.
func misdirected(certificates *certificate.Set, x *exchange.Exchange) bool {
	policy := certificates.Policy(x.Request.Host)
	if x.TLS == nil {
		return policy.Misdirects(false, policy.ID)
	}
	return policy.Misdirects(true, x.TLS.Policy)
}
