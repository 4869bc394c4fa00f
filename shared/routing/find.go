package routing

import (
	"gateway.internal/shared/match"
	"gateway.internal/shared/pathnorm"
)

// Found is the route of a request.
type Found struct {
	// Rule is the route's; nil: no route takes the request.
	Rule *match.Rule
	// Path is the path in the form that the route sees; as it was sent where there is no route, or the path is refused.
	Path string
	// Refused says why the path is refused; empty: it is not.
	Refused string
	// Preflight tells that the request is a CORS preflight, and the route that of the request which it asks about.
	Preflight bool
}

// Memory is for paths that are brought into another form: the one that was found, and one that is looked at meanwhile.
type Memory = [2][]byte

// Find brings the path of a request into its one form, which is what is matched, what rules are applied to and what is
// forwarded, and finds the route for it. q is the request but for its path, which Find sets, and path is that as it was
// sent; empty: there is none, as in a CONNECT. The path that is found is a view of the path or of the first memory,
// which is valid until the next call.
//
// A CORS preflight is for the route of the request that it asks about, where that answers preflights (Fetch standard,
// CORS-preflight fetch). A route that names OPTIONS keeps what is for it, unless the other one's path goes before.
func (t *Tables) Find(q *match.Request, path string, params *match.Params, memory *Memory) Found {
	f := t.find(q, path, params, memory)
	if q.Method != "OPTIONS" || q.Header == nil {
		return f
	}
	if _, from := q.Header.Lookup("Origin"); !from {
		return f
	}
	method, asks := q.Header.Lookup("Access-Control-Request-Method")
	if !asks {
		return f
	}
	own := q.Method
	q.Method = method
	asked := t.find(q, path, params, memory)
	q.Method = own
	if asked.Rule == nil || !routeOf(asked.Rule).Preflights ||
		f.Rule != nil && len(f.Rule.Methods()) > 0 && !asked.Rule.PathBefore(f.Rule) {
		return t.find(q, path, params, memory) // for the parameters, and the form of the path
	}
	asked.Preflight = true
	return asked
}

func (t *Tables) find(q *match.Request, path string, params *match.Params, memory *Memory) (f Found) {
	if len(t.Views) > 0 {
		return t.findInViews(q, path, params, memory)
	}
	f.Path = path
	if path != "" {
		if f.Path, memory[0], f.Refused = t.Paths.Apply(path, memory[0]); f.Refused != "" {
			f.Path = path
			return f
		}
	}
	q.Path = f.Path
	f.Rule = t.Table.Match(q, params)
	return f
}

// ambiguous is why a path is refused that leads to no route in any form that stays the same.
const ambiguous = "the path is for another route in each of its forms"

// findInViews does the same where there are routes that see paths in forms of their own. Of all that match, each in
// its form, the best one counts, and where its form refuses the path, the request is refused: a route that takes
// everything must not get what the rules of a better one turn away. Nor must it get a path by bringing it into a form
// that a better one would have taken: what has changed is matched again as it is forwarded.
func (t *Tables) findInViews(q *match.Request, sent string, params *match.Params, memory *Memory) Found {
	best := t.best(q, sent, params, memory, true)
	if best.refused == "" && best.path != sent {
		again := best.path
		if best = t.best(q, again, params, memory, false); best.refused == "" && best.path != again {
			best.refused = ambiguous
		}
		best.path = again
	}
	if best.refused != "" {
		return Found{Path: sent, Refused: best.refused}
	}
	return Found{Rule: best.rule, Path: best.path}
}

// candidate is a rule that a request may be for, with the form of the path that its route sees.
type candidate struct {
	rule          *match.Rule
	table         *match.Table
	path, refused string
}

// best returns the best rule that a request with a path is for, or the reason why it is refused. keep makes the form of
// the path last, in the first memory; otherwise it is only good for comparing.
func (t *Tables) best(q *match.Request, sent string, params *match.Params, memory *Memory, keep bool) candidate {
	var best, found candidate
	nowhere := candidate{path: sent}
	for i := -1; i < len(t.Views); i++ {
		view := View{Paths: t.Paths, Table: t.Table}
		if i >= 0 {
			view = t.Views[i]
		}
		found = candidate{table: view.Table, path: sent}
		if sent != "" { // which that of a CONNECT is
			found.path, memory[1], found.refused = view.Paths.Apply(sent, memory[1])
		}
		if found.refused != "" {
			var hopeless string
			if found.path, memory[1], hopeless = view.Paths.Meant(sent, memory[1]); hopeless != "" {
				return found // nobody knows whom it is for
			}
			nowhere.refused = found.refused
		}
		q.Path = found.path
		found.rule = found.table.Match(q, params)
		if found.rule == nil || best.rule != nil && match.Compare(found.rule, best.rule) >= 0 {
			continue
		}
		if best = found; keep {
			memory[0], memory[1] = memory[1], memory[0] // what is in use is not written over
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
		q.Path = best.path
		best.table.Match(q, params)
	}
	return best
}

// rules returns a route's rules for paths, on a node.
func (r *Route) rules(node *pathnorm.Rules) *pathnorm.Rules {
	if r.Paths != nil {
		return r.Paths
	}
	return node
}
