package proxy

import (
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/match"
)

// match brings the request's path into its one form, which is what is matched, what rules are applied to and what is forwarded, and finds the rule for it; nil:
// there is none. Otherwise it returns the reason why that can't be.
func (p *Proxy) match(snapshot *runtime.Snapshot, x *exchange.Exchange) (rule *match.Rule, refused string) {
	if len(snapshot.Views) > 0 {
		return p.matchViews(snapshot, x)
	}
	if req := &x.Request; req.Path != "" { // that of a CONNECT is
		if req.Path, x.Memory[0], refused = p.paths.Apply(req.Path, x.Memory[0]); refused != "" {
			return nil, refused
		}
	}
	x.Match.Path = x.Request.Path
	return snapshot.Table.Match(&x.Match, &x.Params), ""
}

// matchViews does the same where there are routes that see paths in forms of their own. Of all that match, each in its form, the best one counts, and where its
// form refuses the path, the request is refused: a route that takes everything must not get what the rules of a better one turn away. Nor must it get a path by
// bringing it into a form that a better one would have taken: what has changed is matched again as it is forwarded.
func (p *Proxy) matchViews(snapshot *runtime.Snapshot, x *exchange.Exchange) (*match.Rule, string) {
	sent := x.Request.Path
	best := p.best(snapshot, x, sent, true)
	if best.refused == "" && best.path != sent {
		again := best.path
		if best = p.best(snapshot, x, again, false); best.refused == "" && best.path != again {
			best.refused = "the path is for another route in each of its forms"
		}
		best.path = again
	}
	if best.refused != "" {
		return nil, best.refused
	}
	x.Request.Path = best.path
	return best.rule, ""
}

// best returns the best rule that a request with a path is for, or the reason why it is refused. keep makes the form of the path last, in the first of the
// exchange's memories; otherwise it is only good for comparing.
func (p *Proxy) best(snapshot *runtime.Snapshot, x *exchange.Exchange, sent string, keep bool) candidate {
	var best, found candidate
	nowhere := candidate{path: sent}
	for i := -1; i < len(snapshot.Views); i++ {
		view := runtime.View{Paths: p.paths, Table: snapshot.Table}
		if i >= 0 {
			view = snapshot.Views[i]
		}
		found = candidate{table: view.Table, path: sent}
		if sent != "" { // which that of a CONNECT is
			found.path, x.Memory[1], found.refused = view.Paths.Apply(sent, x.Memory[1])
		}
		if found.refused != "" {
			var hopeless string
			if found.path, x.Memory[1], hopeless = view.Paths.Meant(sent, x.Memory[1]); hopeless != "" {
				return found // nobody knows whom it is for
			}
			nowhere.refused = found.refused
		}
		x.Match.Path = found.path
		found.rule = found.table.Match(&x.Match, &x.Params)
		if found.rule == nil || best.rule != nil && match.Compare(found.rule, best.rule) >= 0 {
			continue
		}
		if best = found; keep {
			x.Memory[0], x.Memory[1] = x.Memory[1], x.Memory[0] // what is in use is not written over
		} else if found.path == sent {
			best.path = sent
		} else {
			best.path = ""
		}
	}
	switch {
	case best.rule == nil:
		return nowhere
	case best.table != found.table && best.path != "": // the parameters are another's
		x.Match.Path = best.path
		best.table.Match(&x.Match, &x.Params)
	}
	return best
}

// candidate is a rule that a request may be for, with the form of the path that its route sees.
type candidate struct {
	rule          *match.Rule
	table         *match.Table
	path, refused string
}

// normaliseForward brings a path that a rewrite has put together into the form that the route sees: its parts are as they should be, but a part such as ".." of
// a segment may have become a whole one.
func (t *transaction) normaliseForward() bool {
	x, rules := t.x, t.p.paths
	if t.route.Paths != nil {
		rules = t.route.Paths
	}
	path, memory, refused := rules.Apply(x.Forward.Path, x.Memory[1])
	x.Forward.Path, x.Memory[1] = path, memory
	if refused != "" {
		x.Fail(fault.BadRequest, "once it is rewritten, "+refused)
	}
	return refused == ""
}
