package exchange

import "context"

// Fork is an exchange's request seen by one step of a parallel pipeline. The step may read it, change its header and
// its query, and answer it as usual; the changes reach the exchange when Join is called, in the pipeline's order.
type Fork struct {
	// X is what the step sees. It shares views with the exchange, so the step has to end before the exchange does.
	X Exchange

	log       []headerChange
	queries   []queryChange
	principal *Principal // that the step began with
	facts     int        // that the step began with
}

// Fork copies what a step may read into f, and starts recording. What the step waits for by X.Context ends with ctx
// too.
func (x *Exchange) Fork(f *Fork, ctx context.Context) {
	f.log = f.log[:0]
	f.X.Reset()
	f.X.queries = &f.queries
	req, src := &f.X.Request, &x.Request
	req.copyFrom(src)
	req.Header.copyFrom(&src.Header)
	req.Header.log = &f.log
	f.X.ID, f.X.Peer, f.X.Client, f.X.ClientText = x.ID, x.Peer, x.Client, x.ClientText
	f.X.Scheme, f.X.TLS, f.X.Forwarded = x.Scheme, x.TLS, x.Forwarded
	f.X.RPC = x.RPC
	f.X.Start, f.X.Now, f.X.Deadline = x.Start, x.Now, x.Deadline
	f.X.Params = x.Params
	f.principal, f.X.Principal = x.Principal, x.Principal
	f.X.facts = append(f.X.facts, x.facts...)
	f.facts = len(x.facts)
	f.X.BodyLimit = x.BodyLimit
	f.X.Texts = nil // what it gets is given to x, and the fork is used again before x has ended
	f.X.Route, f.X.RouteMethods, f.X.Service, f.X.Shard = x.Route, x.RouteMethods, x.Service, x.Shard
	f.X.of, f.X.ended = x, ctx
}

// copyFrom copies all of a request but its fields. Its trailers are not even looked at: they may just be coming.
func (r *Request) copyFrom(src *Request) {
	r.Method, r.Path, r.RawQuery, r.HasQuery, r.Host = src.Method, src.Path, src.RawQuery, src.HasQuery, src.Host
	r.Head, r.ContentLength, r.Version, r.Upgrade = src.Head, src.ContentLength, src.Version, src.Upgrade
	r.Expects100, r.AcceptsTrailers, r.HasVia = src.Expects100, src.AcceptsTrailers, src.HasVia
	r.KeepsOddNames = src.KeepsOddNames
}

// Waited reports whether what the step waits for has been ended by another step.
func (f *Fork) Waited() bool { return f.X.waits && f.X.ended.Err() != nil }

// Refused reports whether another step of a parallel pipeline has refused the request, or failed: nobody waits for what
// this one makes of it.
func (x *Exchange) Refused() bool { return x.ended != nil && x.ended.Err() != nil }

// Join makes the fork's changes to the request on x. It refuses the request where the fork's step has found another
// consumer than one whose fork was joined before.
func (f *Fork) Join(x *Exchange) Verdict {
	f.X.Request.Header.log = nil
	x.Request.Header.replay(f.log)
	if p := f.X.Principal; p != f.principal {
		if x.Principal == f.principal || p == nil {
			x.Principal = p
		} else if x.Identify(p) == Stop {
			return Stop
		}
	}
	f.X.queries = nil
	for _, c := range f.queries {
		x.ChangeQuery(c.gone, c.added)
	}
	x.facts = append(x.facts, f.X.facts[f.facts:]...)
	return Continue
}

// JoinResponse makes the fork's answer x's.
func (f *Fork) JoinResponse(x *Exchange) {
	res := &f.X.Response
	x.Response.Header.copyFrom(&res.Header)
	x.Response.Status, x.Response.Reason, x.Response.Head = res.Status, res.Reason, nil
	x.Response.Local, x.Response.Code, x.Response.Message = true, res.Code, res.Message
	x.Response.Body = append(x.body[:0], res.Body...)
	x.Response.ContentLength = int64(len(res.Body))
}

// Release lets go of what the fork holds of the exchange.
func (f *Fork) Release() {
	f.X.Reset()
	clear(f.queries)
	f.queries = f.queries[:0]
	f.principal, f.facts = nil, 0
}

// Branch makes b, which is empty, a copy of the exchange for one of several attempts that may be under way at once: it
// has a response of its own, and down is the client's side as the attempt sees it. It shares views and the clock of
// streams with the exchange, so the attempt has to end before the exchange does. It has no trailers of the request's:
// the body that they end may be coming meanwhile, and down knows when it has come.
func (x *Exchange) Branch(b *Exchange, down Downstream) {
	req, src := &b.Request, &x.Request
	req.copyFrom(src)
	req.Header.copyFrom(&src.Header)
	b.ID, b.Peer, b.Client, b.ClientText = x.ID, x.Peer, x.Client, x.ClientText
	b.Scheme, b.TLS, b.Forwarded = x.Scheme, x.TLS, x.Forwarded
	b.RPC, b.Start, b.Now, b.Deadline = x.RPC, x.Start, x.Now, x.Deadline
	b.Route, b.Service, b.Shard, b.Forward, b.BodyLimit = x.Route, x.Service, x.Shard, x.Forward, x.BodyLimit
	b.Down, b.of = down, x
}

// TakeResponse makes the response of a branch the exchange's. The branch gets what the exchange had.
func (x *Exchange) TakeResponse(b *Exchange) {
	x.Response, b.Response = b.Response, x.Response
	if res := &x.Response; res.Local && len(res.Body) > 0 {
		res.Body = append(x.body[:0], res.Body...)
	}
}
