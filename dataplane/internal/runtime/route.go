package runtime

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"gateway.internal/dataplane/internal/errorpage"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/mirror"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/subrequest"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/match"
	"gateway.internal/shared/pathnorm"
)

// Route is a compiled route: everything that can be decided before a request comes has been decided. It is immutable.
type Route struct {
	// Name is the route's.
	Name string
	// Backends share the traffic; at least one. That of a redirect or a direct response has no service.
	Backends []Backend
	// Local counts exchanges that no backend is chosen for.
	Local *telemetry.Route
	// Paths are the rules that bring paths into the form that the route sees; nil: the node's.
	Paths *pathnorm.Rules
	// MaxTargetBytes is the longest path with its query; 0: the node's limit.
	MaxTargetBytes int
	// Allow is what Allow says of its methods.
	Allow string
	// Challenge tells that it answers an ACME challenge, to everybody: without global pipelines and whatever its host asks of clients.
	Challenge bool
	// Preflights tells that it answers the CORS preflights for its methods, which Methods names as a list of a field; empty: any.
	Preflights bool
	Methods    string

	// Mirror gets copies of requests; nil: none.
	Mirror *mirror.Mirror

	total    uint32 // of the backends' weights
	rewrite  *rewrite
	redirect *redirect
	direct   *configv1.DirectResponse
	fields   []string // of the direct response: names and values in turn
	body     []byte
}

// Backend is one of a route's services, with what depends on the service.
type Backend struct {
	// Service takes the requests; nil when the configuration has lost it.
	Service *upstream.Service
	// Limits are those of the route's and the service's policies.
	Limits config.Limits
	// Errors are what clients are shown of the gateway's errors; nil: its own JSON.
	Errors *errorpage.Pages
	// Chain is the global pipelines, the service's and the route's; nil: none.
	Chain *pipeline.Chain
	// Count counts the exchanges.
	Count *telemetry.Route

	weight uint32
}

// Choose returns the backend for an exchange; it has to be one of several only where traffic is split by weight. A route without
// services has one that only carries limits and chain.
func (r *Route) Choose() *Backend {
	if len(r.Backends) == 1 {
		return &r.Backends[0]
	}
	n := rand.Uint32N(r.total)
	for i := range r.Backends {
		b := &r.Backends[i]
		if n < b.weight {
			return b
		}
		n -= b.weight
	}
	return &r.Backends[0]
}

// keys are those of the route's counters.
func (r *Route) keys() []telemetry.Key {
	keys := []telemetry.Key{r.Local.Key()}
	for i := range r.Backends {
		keys = append(keys, r.Backends[i].Count.Key())
	}
	return keys
}

// AnswerBytes returns the length of the body of the route's own response; 0 where it has none.
func (r *Route) AnswerBytes() int { return len(r.body) }

// Answer sets the route's own response, if it has one, and reports whether it has.
func (r *Route) Answer(x *exchange.Exchange) bool {
	switch {
	case r.direct != nil:
		status := int(r.direct.GetStatus())
		if status == 0 {
			status = 200
		}
		x.Answer(status, "", r.body)
		for i := 0; i < len(r.fields); i += 2 {
			x.Response.Header.Add(r.fields[i], r.fields[i+1])
		}
		return true
	case r.redirect != nil:
		r.redirect.answer(x)
		return true
	}
	return false
}

// Rewrite sets what the service is to see.
func (r *Route) Rewrite(x *exchange.Exchange) {
	if r.rewrite != nil {
		r.rewrite.apply(x)
	}
}

func expand(parts []config.TemplatePart, x *exchange.Exchange) string {
	var b strings.Builder
	for _, p := range parts {
		if p.Param != "" {
			v, _ := x.Params.Get(p.Param)
			b.WriteString(v)
		} else {
			b.WriteString(p.Literal)
		}
	}
	return b.String()
}

// compiler makes routes of one configuration. What was made before is used again.
type compiler struct {
	before    *made
	config    *config.Config
	panics    *telemetry.Panics
	paths     func(*configv1.Route) (*pathnorm.Rules, error)
	services  *upstream.Registry
	counters  *telemetry.Registry
	pipelines map[string]madeOf[*pipeline.Pipeline] // by id
	global    []*pipeline.Pipeline
	chains    map[[2]string]*pipeline.Chain
	pages     map[[2]string]madeOf[*errorpage.Pages]
}

func (c *compiler) route(e *config.Entry) (*Route, error) {
	msg := e.Message.(*configv1.Route)
	r := &Route{Name: msg.GetName(), Allow: allow(msg), Local: c.counters.Route(telemetry.Key{RouteID: e.ID(), Route: e.Name()})}
	r.MaxTargetBytes = int(msg.GetMaxTargetBytes())
	if m := msg.GetMirror(); m != nil {
		client := subrequest.NewClient(c.services.Get(m.GetServiceId()), c.panics)
		if client == nil {
			return nil, fmt.Errorf("mirror: there is no service %s", m.GetServiceId())
		}
		r.Mirror = mirror.New(e.Name(), client, m)
	}
	var err error
	if r.Paths, err = c.paths(msg); err != nil {
		return nil, fmt.Errorf("path_options: %w", err)
	}
	backends := msg.GetBackends()
	if id := msg.GetServiceId(); id != "" {
		backends = []*configv1.Backend{{ServiceId: id}}
	}
	for _, b := range backends {
		weight := uint32(1)
		if b.Weight != nil {
			weight = b.GetWeight()
		}
		made, err := c.backend(e, msg, b.GetServiceId(), weight)
		if err != nil {
			return nil, err
		}
		r.Backends = append(r.Backends, made)
		r.total += weight
	}
	if len(r.Backends) == 0 {
		made, err := c.backend(e, msg, "", 1)
		if err != nil {
			return nil, err
		}
		if r.Challenge = config.IsChallenge(msg); r.Challenge {
			made.Chain = nil
		}
		r.Backends = append(r.Backends, made)
	}
	r.Preflights = !slices.ContainsFunc(r.Backends, func(b Backend) bool { return !b.Chain.AnswersPreflights() })
	if err := r.compileTarget(msg); err != nil {
		return nil, err
	}
	return r, nil
}

// allow lists a route's methods.
func allow(msg *configv1.Route) string {
	methods := msg.GetMethods()
	if m := msg.GetMethod(); m != "" {
		methods = []string{m}
	}
	if len(methods) == 0 || slices.Contains(methods, "*") {
		return "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	}
	return strings.Join(methods, ", ")
}

func (c *compiler) backend(e *config.Entry, msg *configv1.Route, serviceID string, weight uint32) (Backend, error) {
	b := Backend{weight: weight}
	svc := &configv1.Service{}
	if serviceID != "" {
		se := c.config.ByID(config.Service, serviceID)
		if se == nil {
			return b, fmt.Errorf("there is no service %s", serviceID)
		}
		svc = se.Message.(*configv1.Service)
		b.Service = c.services.Get(serviceID)
	}
	b.Limits = config.LimitsOf(c.policy(msg.GetPolicyId()), c.policy(svc.GetPolicyId()))
	var err error
	if b.Errors, err = c.errors(msg.GetPolicyId(), svc.GetPolicyId()); err != nil {
		return b, err
	}
	b.Count = c.counters.Route(telemetry.Key{RouteID: e.ID(), Route: e.Name(), ServiceID: serviceID, Service: svc.GetName()})
	b.Chain, err = c.chain(svc.GetPipelineId(), msg.GetPipelineId())
	return b, err
}

// errors returns the pages for a route's and a service's policy, over the global ones. Routes with the same pair share them.
func (c *compiler) errors(route, service string) (*errorpage.Pages, error) {
	key := [2]string{route, service}
	if p, made := c.pages[key]; made {
		return p.thing, nil
	}
	of := ofPages(c.config, key)
	p, made := c.before.pages[key]
	if !made || p.of != of {
		pages, err := errorpage.Compile(c.policy(route), c.policy(service), c.config.GlobalPolicy())
		if err != nil {
			return nil, err
		}
		p = madeOf[*errorpage.Pages]{of, pages}
	}
	c.pages[key] = p
	return p.thing, nil
}

func (c *compiler) policy(id string) *configv1.Policy {
	if e := c.config.ByID(config.Policy, id); e != nil {
		return e.Message.(*configv1.Policy)
	}
	return nil
}

// chain returns the chain for a service's and a route's pipeline. Routes with the same pair share it.
func (c *compiler) chain(service, route string) (*pipeline.Chain, error) {
	key := [2]string{service, route}
	if ch, made := c.chains[key]; made {
		return ch, nil
	}
	list := slices.Clone(c.global)
	for _, id := range key {
		p, err := c.pipeline(id)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	ch := pipeline.NewChain(c.panics, list...)
	c.chains[key] = ch
	return ch, nil
}

func (r *Route) compileTarget(msg *configv1.Route) error {
	rule, errs := match.Parse(msg)
	if len(errs) > 0 {
		return fmt.Errorf("%s %s", errs[0].Field, errs[0].Message)
	}
	r.Methods = strings.Join(rule.Methods(), ", ")
	if rw := msg.GetRewrite(); rw != nil {
		var err error
		if r.rewrite, err = compileRewrite(rw, rule); err != nil {
			return fmt.Errorf("rewrite: %w", err)
		}
	}
	if rd := msg.GetRedirect(); rd != nil {
		r.redirect = &redirect{status: int(rd.GetStatus()), to: match.NewRedirect(rd), stripQuery: rd.GetStripQuery()}
		if r.redirect.status == 0 {
			r.redirect.status = 302
		}
		if rd.GetPath() != "" {
			var err error
			if r.redirect.path, err = config.ParseTemplate(rd.GetPath(), rule.ParamNames()); err != nil {
				return fmt.Errorf("redirect: %w", err)
			}
		}
	}
	if d := msg.GetDirectResponse(); d != nil {
		r.direct, r.body = d, []byte(d.GetBody())
		typed := len(r.body) == 0
		for _, name := range slices.Sorted(maps.Keys(d.GetHeaders())) {
			r.fields = append(r.fields, name, d.GetHeaders()[name])
			typed = typed || strings.EqualFold(name, "content-type")
		}
		if !typed {
			r.fields = append(r.fields, "Content-Type", "text/plain; charset=utf-8")
		}
	}
	return nil
}

func millis(ms uint32) time.Duration { return time.Duration(ms) * time.Millisecond }
