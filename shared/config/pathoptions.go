package config

import (
	"slices"
	"strconv"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/match"
)

// MaxPathOptions is how many combinations of path options the routes of a configuration may have besides the node's:
// each costs every request a look.
const MaxPathOptions = 8

// The bounds of a route's max_target_bytes.
const (
	minTargetBytes = 64
	maxTargetBytes = 64 << 10
)

// neverNormalised are the path options for which nothing means the same.
var neverNormalised = []string{"encoded_nul", "encoded_control", "invalid_utf8"}

// PathActions returns what a route's path options say, by the options' names.
func PathActions(o *configv1.PathOptions) map[string]string {
	if o == nil {
		return nil
	}
	actions := map[string]string{}
	m := o.ProtoReflect()
	for fields, i := m.Descriptor().Fields(), 0; i < fields.Len(); i++ {
		if f := fields.Get(i); m.Has(f) {
			actions[string(f.Name())] = m.Get(f).String()
		}
	}
	return actions
}

func (c *checker) target(m *configv1.Route) {
	for name, action := range PathActions(m.GetPathOptions()) {
		if field := "path_options." + name; slices.Contains(neverNormalised, name) {
			c.oneOf(field, action, "refuse", "keep")
		} else {
			c.oneOf(field, action, "refuse", "normalise", "keep")
		}
	}
	if n := m.GetMaxTargetBytes(); n != 0 {
		c.number("max_target_bytes", n, minTargetBytes, maxTargetBytes)
	}
}

// checkPathOptions counts the combinations of path options.
func (p *planner) checkPathOptions(next *Config, touched [lastKind + 1]map[string]bool, at map[location]string) {
	views := map[string]bool{}
	for id := range touched[Route] {
		e := next.ByID(Route, id)
		if e == nil || e.Message.(*configv1.Route).GetPathOptions() == nil {
			continue
		}
		if len(views) == 0 {
			for other := range next.All(Route) {
				views[match.ViewOf(other.Message.(*configv1.Route).GetPathOptions())] = true
			}
			delete(views, "")
		}
		if len(views) > MaxPathOptions {
			p.problems.add(Route, e.Name(), at[location{Route, id}], "path_options", strconv.Itoa(len(views)),
				"are one of too many combinations among all routes: %d are allowed, each of which costs every request another look",
				MaxPathOptions)
			return
		}
	}
}
