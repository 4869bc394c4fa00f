// Package routing says what a node does with a request, but for what middleware does to it: which route it is for, in
// which form its path is looked at, which pipelines run for it and in which order, which service gets it, and what
// that sees of its target. All of this follows from a configuration and the request's head alone; what is left to
// chance is an argument. Nodes run on these functions, and the control plane foretells by them what nodes will do. It
// knows no sockets, and no state that lasts from one request to the next.
package routing

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/match"
	"gateway.internal/shared/pathnorm"
)

// Route is a compiled route: everything that can be decided before a request comes has been decided. It is immutable.
type Route struct {
	// Name is the route's.
	Name string
	// Paths are the rules that bring paths into the form that the route sees; nil: the node's.
	Paths *pathnorm.Rules
	// MaxTargetBytes is the longest path with its query; 0: the node's limit.
	MaxTargetBytes int
	// Allow is what the field Allow says of its methods.
	Allow string
	// Challenge tells that it answers an ACME challenge, to everybody: without global pipelines and whatever its host asks
	// of clients.
	Challenge bool
	// Preflights tells that it answers the CORS preflights for its methods, which Methods names as a list of a field;
	// empty: any.
	Preflights bool
	Methods    string
	// Split shares the traffic among its services.
	Split Split
	// Rewrite changes what the service sees of a request's target; nil: nothing.
	Rewrite *Rewrite
	// Redirect and Direct are the route's own response, of which it has at most one; nil: its services respond.
	Redirect *Redirect
	Direct   *Direct
	// Mirror gets copies of requests; nil: none.
	Mirror *Mirror
}

// Base returns the route. Types that embed a Route are the Value of a rule in Tables by it.
func (r *Route) Base() *Route { return r }

// routeOf returns the route of a rule in Tables.
func routeOf(rule *match.Rule) *Route { return rule.Value.(interface{ Base() *Route }).Base() }

// Direct is a route's fixed response.
type Direct struct {
	// Status is the response's.
	Status int
	// Fields are names and values in turn.
	Fields []string
	// Body is the whole body. It is not to be changed.
	Body []byte
}

// Compiler makes routes of one configuration. It is not safe for concurrent use.
type Compiler struct {
	config    *config.Config
	forms     *PathForms
	pipelines *Pipelines
}

// NewCompiler returns a compiler of a configuration, on a node that sees paths in these forms.
func NewCompiler(c *config.Config, forms *PathForms) *Compiler {
	return &Compiler{c, forms, NewPipelines(c)}
}

// Pipelines returns the order of the configuration's pipelines.
func (c *Compiler) Pipelines() *Pipelines { return c.pipelines }

// Enabled reports whether nodes have a route at all.
func Enabled(r *configv1.Route) bool { return r.Enabled == nil || r.GetEnabled() }

// Route compiles a route of the configuration, with the rule that finds it. The rule's Value is the caller's to set.
func (c *Compiler) Route(msg *configv1.Route) (*Route, *match.Rule, error) {
	rule, errs := match.Parse(msg)
	if len(errs) > 0 {
		return nil, nil, fmt.Errorf("%s %s", errs[0].Field, errs[0].Message)
	}
	r := &Route{
		Name: msg.GetName(), MaxTargetBytes: int(msg.GetMaxTargetBytes()), Allow: allow(rule),
		Challenge: config.IsChallenge(msg), Methods: strings.Join(rule.Methods(), ", "), Mirror: mirrorOf(msg.GetMirror()),
	}
	var err error
	if r.Paths, err = c.forms.Of(msg.GetPathOptions()); err != nil {
		return nil, nil, fmt.Errorf("path_options: %w", err)
	}
	if r.Split, err = c.split(msg); err != nil {
		return nil, nil, err
	}
	r.Preflights = !r.Challenge && !slices.ContainsFunc(r.Split.Shares, func(s Share) bool {
		return !c.pipelines.AnswerPreflights(c.Service(s.ServiceID).GetPipelineId(), msg.GetPipelineId())
	})
	if rw := msg.GetRewrite(); rw != nil {
		if r.Rewrite, err = newRewrite(rw, rule); err != nil {
			return nil, nil, fmt.Errorf("rewrite: %w", err)
		}
	}
	if rd := msg.GetRedirect(); rd != nil {
		if r.Redirect, err = newRedirect(rd, rule); err != nil {
			return nil, nil, fmt.Errorf("redirect: %w", err)
		}
	}
	if d := msg.GetDirectResponse(); d != nil {
		r.Direct = newDirect(d)
	}
	return r, rule, nil
}

// Service returns a service by its id; nil, which has no name and no references: there is none.
func (c *Compiler) Service(id string) *configv1.Service {
	if e := c.config.ByID(config.Service, id); e != nil {
		return e.Message.(*configv1.Service)
	}
	return nil
}

// allow lists a route's methods.
func allow(rule *match.Rule) string {
	if methods := rule.Methods(); len(methods) > 0 {
		return strings.Join(methods, ", ")
	}
	return AnyMethod
}

// AnyMethod is what the field Allow says where any method may be used.
const AnyMethod = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

func newDirect(d *configv1.DirectResponse) *Direct {
	r := &Direct{Status: int(d.GetStatus()), Body: []byte(d.GetBody())}
	if r.Status == 0 {
		r.Status = 200
	}
	typed := len(r.Body) == 0
	for _, name := range slices.Sorted(maps.Keys(d.GetHeaders())) {
		r.Fields = append(r.Fields, name, d.GetHeaders()[name])
		typed = typed || strings.EqualFold(name, "content-type")
	}
	if !typed {
		r.Fields = append(r.Fields, "Content-Type", "text/plain; charset=utf-8")
	}
	return r
}
