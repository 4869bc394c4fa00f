package runtime

import (
	"slices"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/match"
	"gateway.internal/shared/pathnorm"
)

// View is the routes that see paths in a form of their own.
type View struct {
	// Paths are the rules that bring paths into it.
	Paths *pathnorm.Rules
	// Table finds the routes.
	Table *match.Table
}

// pathRules returns the rules for the paths of a route; nil: the node's. Routes with the same options share them.
func (r *Runtime) pathRules(msg *configv1.Route) (*pathnorm.Rules, error) {
	key := match.ViewOf(msg.GetPathOptions())
	if key == "" {
		return nil, nil //nolint:nilnil // most routes have none of their own
	}
	if rules, made := r.views[key]; made {
		return rules, nil
	}
	set, err := r.paths.With(config.PathActions(msg.GetPathOptions()))
	if err != nil {
		return nil, err
	}
	var rules *pathnorm.Rules
	if set != r.paths {
		rules = pathnorm.Compile(set)
		for _, other := range r.views { // said in another way
			if other != nil && other.Settings() == set {
				rules = other
			}
		}
	}
	r.views[key] = rules
	return rules, nil
}

// withViews returns the node's table, and the others, without the rules of these IDs and with the added ones, each in the table of its route's view.
func withViews(table *match.Table, views []View, remove []string, add []*match.Rule) (*match.Table, []View) {
	of := map[*pathnorm.Rules][]*match.Rule{}
	for _, rule := range add {
		paths := rule.Value.(*Route).Paths
		of[paths] = append(of[paths], rule)
	}
	next := make([]View, 0, len(views))
	for _, v := range views {
		if v.Table = v.Table.With(remove, of[v.Paths]); v.Table.Len() > 0 {
			next = append(next, v)
		}
	}
	for paths, rules := range of {
		if paths != nil && !slices.ContainsFunc(views, func(v View) bool { return v.Paths == paths }) {
			next = append(next, View{paths, match.Compile(rules)})
		}
	}
	if len(next) == 0 {
		next = nil
	}
	return table.With(remove, of[nil]), next
}
