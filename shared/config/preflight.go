package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/middleware"
)

// preflights finds routes with backends of which some run a cors step and others none: nodes let a route take the
// CORS preflights for its methods only where every backend answers them, since a preflight may go to any. Other
// routes that run such a step need not name OPTIONS.
func (w *warner) preflights() {
	with := corsPipelines(w.next)
	if len(with) == 0 {
		return
	}
	type gap struct {
		route    *configv1.Route
		pipeline string
		without  []string
	}
	var gaps []gap
	for e := range w.next.All(Route) {
		r := e.Message.(*configv1.Route)
		if len(r.GetBackends()) < 2 || !r.GetEnabled() || with[r.GetPipelineId()] != nil {
			continue
		}
		g, touched := gap{route: r}, w.touched[Route][e.ID()]
		for _, s := range servicesOf(w.next, r) {
			touched = touched || w.touched[Service][s.GetId()] || w.touched[Pipeline][s.GetPipelineId()]
			if p := with[s.GetPipelineId()]; p != nil {
				g.pipeline = p.GetName()
			} else {
				g.without = append(g.without, fmt.Sprintf("%q", s.GetName()))
			}
		}
		if touched && g.pipeline != "" && len(g.without) > 0 {
			gaps = append(gaps, g)
		}
	}
	slices.SortFunc(gaps, func(a, b gap) int { return cmp.Compare(a.route.GetName(), b.route.GetName()) })
	for _, g := range gaps {
		w.say("routes with a cors step for some backends only", g.route, "backends", "",
			"answer no CORS preflights: pipeline %q has a cors step, but nothing runs one for %s, "+
				"and a preflight may go to any; a pipeline of the route runs for all",
			g.pipeline, strings.Join(g.without, ", "))
	}
}

// corsPipelines returns the pipelines with an enabled cors step, by id; none where a global one has it, which runs
// for all.
func corsPipelines(c *Config) map[string]*configv1.Pipeline {
	found := map[string]*configv1.Pipeline{}
	for e := range c.All(Pipeline) {
		p := e.Message.(*configv1.Pipeline)
		if !c.AnswersPreflights(p) {
			continue
		}
		if p.GetGlobal() {
			return nil
		}
		found[e.ID()] = p
	}
	return found
}

// AnswersPreflights reports whether a pipeline has an enabled step that answers CORS preflights.
func (c *Config) AnswersPreflights(p *configv1.Pipeline) bool {
	return slices.ContainsFunc(p.GetMiddlewareIds(), func(id string) bool {
		e := c.ByID(Middleware, id)
		if e == nil {
			return false
		}
		m := e.Message.(*configv1.Middleware)
		t, known := middleware.Lookup(m.GetType())
		return known && t.AnswersPreflights && (m.Enabled == nil || m.GetEnabled())
	})
}
