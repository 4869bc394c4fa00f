package routing

import (
	"slices"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/match"
	"gateway.internal/shared/pathnorm"
)

// Tables find the routes of requests. They are immutable and safe for concurrent use. The Value of each of their rules
// is a *Route, or has one embedded in it.
type Tables struct {
	// Paths are the node's rules for paths.
	Paths *pathnorm.Rules
	// Table finds the routes that see paths as the node's rules say.
	Table *match.Table
	// Views find the others.
	Views []View
}

// View is the routes that see paths in a form of their own.
type View struct {
	// Paths are the rules that bring paths into it.
	Paths *pathnorm.Rules
	// Table finds the routes.
	Table *match.Table
}

// NewTables returns tables without routes, for a node's rules for paths.
func NewTables(paths *pathnorm.Rules) Tables { return Tables{Paths: paths, Table: match.Compile(nil)} }

// With returns tables without the rules of these IDs and with the added ones, each in the table of its route's view.
// What does not change is shared.
func (t *Tables) With(remove []string, add []*match.Rule) Tables {
	of := map[*pathnorm.Rules][]*match.Rule{}
	for _, rule := range add {
		paths := routeOf(rule).Paths
		of[paths] = append(of[paths], rule)
	}
	next := make([]View, 0, len(t.Views))
	for _, v := range t.Views {
		if v.Table = v.Table.With(remove, of[v.Paths]); v.Table.Len() > 0 {
			next = append(next, v)
		}
	}
	for paths, rules := range of {
		if paths != nil && !slices.ContainsFunc(t.Views, func(v View) bool { return v.Paths == paths }) {
			next = append(next, View{paths, match.Compile(rules)})
		}
	}
	if len(next) == 0 {
		next = nil
	}
	// Where several views refuse a path, their order decides on the reason that is told: it is the same on all nodes, and
	// whatever they had before.
	slices.SortFunc(next, func(a, b View) int { return a.Paths.Settings().Compare(b.Paths.Settings()) })
	return Tables{Paths: t.Paths, Table: t.Table.With(remove, of[nil]), Views: next}
}

// PathForms compiles the rules for the paths of routes. Routes that see paths in the same form share their rules. It is
// not safe for concurrent use.
type PathForms struct {
	settings pathnorm.Settings
	node     *pathnorm.Rules
	byKey    map[string]*pathnorm.Rules // by what match.ViewOf says
}

// NewPathForms returns the forms on a node with settings that Check has passed.
func NewPathForms(s pathnorm.Settings) *PathForms {
	return &PathForms{settings: s, node: pathnorm.Compile(s), byKey: map[string]*pathnorm.Rules{}}
}

// Node returns the node's rules.
func (f *PathForms) Node() *pathnorm.Rules { return f.node }

// Of returns the rules for the paths of routes with these options; nil: the node's.
func (f *PathForms) Of(o *configv1.PathOptions) (*pathnorm.Rules, error) {
	key := match.ViewOf(o)
	if key == "" {
		return nil, nil //nolint:nilnil // most routes have none of their own
	}
	if rules, made := f.byKey[key]; made {
		return rules, nil
	}
	set, err := f.settings.With(config.PathActions(o))
	if err != nil {
		return nil, err
	}
	var rules *pathnorm.Rules
	if set != f.settings {
		rules = pathnorm.Compile(set)
		for _, other := range f.byKey { // said in another way
			if other != nil && other.Settings() == set {
				rules = other
			}
		}
	}
	f.byKey[key] = rules
	return rules, nil
}
