package routing

import (
	"cmp"
	"fmt"
	"slices"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// Pipelines says which pipelines of a configuration run for requests, and in which order: the global ones by name, then
// that of the service, then that of the route. It is not safe for concurrent use.
type Pipelines struct {
	config *config.Config
	sorted []*config.Entry
	global []*config.Entry
	// answers are the pipelines that answer CORS preflights, by id, once that was asked.
	answers map[string]bool
	always  bool // a global one does
}

// NewPipelines returns the order of a configuration's pipelines.
func NewPipelines(c *config.Config) *Pipelines {
	p := &Pipelines{config: c, sorted: c.Sorted(config.Pipeline)}
	for _, e := range p.sorted {
		if e.Message.(*configv1.Pipeline).GetGlobal() {
			p.global = append(p.global, e)
		}
	}
	return p
}

// All returns all pipelines by name.
func (p *Pipelines) All() []*config.Entry { return p.sorted }

// Level is what a pipeline runs for.
type Level string

// The levels, in their order.
const (
	ForAll     Level = "all"
	ForService Level = "service"
	ForRoute   Level = "route"
)

// Use is a pipeline in its place.
type Use struct {
	// Pipeline is the resource.
	Pipeline *config.Entry
	// Level is what it runs for.
	Level Level
}

// For returns the pipelines that run for a service's and a route's pipeline, by id, first to last. Empty ids are of
// none. Responses pass them in the reverse order.
func (p *Pipelines) For(service, route string) ([]Use, error) {
	list := make([]Use, 0, len(p.global)+2)
	for _, e := range p.global {
		list = append(list, Use{e, ForAll})
	}
	for _, own := range [...]struct {
		id    string
		level Level
	}{{service, ForService}, {route, ForRoute}} {
		if own.id == "" {
			continue
		}
		e := p.config.ByID(config.Pipeline, own.id)
		if e == nil {
			return nil, fmt.Errorf("there is no pipeline %s", own.id)
		}
		list = append(list, Use{e, own.level})
	}
	return list, nil
}

// Steps returns the middleware of a pipeline in the order of its request phases: what is enabled, by its order. Where
// one is not there, the error has its id.
func Steps(c *config.Config, pipeline *config.Entry) ([]*config.Entry, error) {
	var list []*config.Entry
	for _, id := range pipeline.Message.(*configv1.Pipeline).GetMiddlewareIds() {
		e := c.ByID(config.Middleware, id)
		if e == nil {
			return nil, fmt.Errorf("there is no middleware %s", id)
		}
		if m := e.Message.(*configv1.Middleware); m.Enabled == nil || m.GetEnabled() {
			list = append(list, e)
		}
	}
	slices.SortStableFunc(list, func(a, b *config.Entry) int {
		return cmp.Compare(a.Message.(*configv1.Middleware).GetOrder(), b.Message.(*configv1.Middleware).GetOrder())
	})
	return list, nil
}

// AnswerPreflights reports whether the pipelines that run for a service's and a route's pipeline answer CORS
// preflights.
func (p *Pipelines) AnswerPreflights(service, route string) bool {
	if p.answers == nil {
		p.answers = map[string]bool{}
		for _, e := range p.sorted {
			if m := e.Message.(*configv1.Pipeline); p.config.AnswersPreflights(m) {
				p.answers[e.ID()] = true
				p.always = p.always || m.GetGlobal()
			}
		}
	}
	return p.always || p.answers[service] || p.answers[route]
}
