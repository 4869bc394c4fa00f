package runtime

import (
	"fmt"
	"time"

	"gateway.internal/dataplane/internal/errorpage"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/injection"
	"gateway.internal/dataplane/internal/mirror"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/ratelimit"
	"gateway.internal/dataplane/internal/subrequest"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/match"
	"gateway.internal/shared/routing"
)

// Route is a compiled route with what it needs of this node. It is immutable.
type Route struct {
	routing.Route
	// Backends are the shares of the traffic, in the order of Split.
	Backends []Backend
	// Undecided stands for all of Backends until the global pipelines have found out the consumer, which the choice
	// depends on: its chain is what these begin with; nil: the choice is made before.
	Undecided *Backend
	// Local counts exchanges that no backend is chosen for.
	Local *telemetry.Route
	// Mirror gets copies of requests; nil: none.
	Mirror *mirror.Mirror
}

// Backend is one of a route's services, with what depends on the service.
type Backend struct {
	// Service takes the requests; nil when the configuration has lost it.
	Service *upstream.Service
	// Limits are those of the route's and the service's policies.
	Limits config.Limits
	// Priority is what requests have before it is known whose they are: the first that any consumer may have.
	Priority config.Priority
	// Fault makes some requests late, and answers some; nil: none.
	Fault *injection.Fault
	// Errors are what clients are shown of the gateway's errors; nil: its own JSON.
	Errors *errorpage.Pages
	// Chain is the global pipelines, the service's and the route's; nil: none.
	Chain *pipeline.Chain
	// Count counts the exchanges.
	Count *telemetry.Route
	// RateLimits are those of the route's and the service's policies; nil: none.
	RateLimits *ratelimit.Set
	// Retries are what the policies say of further attempts; nil: nothing.
	Retries *config.Retries
}

// Choose returns the backend for an exchange, and what its client is to be known by from now on; 0: nothing. A route
// without services has a backend that only carries limits and chain. random returns a number from 0 and below n.
func (r *Route) Choose(x *exchange.Exchange, random func(n uint32) uint32) (*Backend, routing.ClientID) {
	if len(r.Backends) == 1 {
		return &r.Backends[0], 0
	}
	c := routing.Client{Address: x.Client.Addr()}
	if p := x.Principal; p != nil {
		c.Consumer, c.Groups = p.Consumer, p.Groups
	}
	choice := r.Split.Choose(&x.Match, &c, random)
	return &r.Backends[choice.Share], choice.ID
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
func (r *Route) AnswerBytes() int {
	if r.Direct == nil {
		return 0
	}
	return len(r.Direct.Body)
}

// Answer sets the route's own response, if it has one, and reports whether it has.
func (r *Route) Answer(x *exchange.Exchange) bool {
	switch {
	case r.Direct != nil:
		x.Answer(r.Direct.Status, "", r.Direct.Body)
		for i := 0; i < len(r.Direct.Fields); i += 2 {
			x.Response.Header.Add(r.Direct.Fields[i], r.Direct.Fields[i+1])
		}
		return true
	case r.Redirect != nil:
		location, refused := r.Redirect.Location(&x.Match, x.Request.HasQuery, &x.Params)
		if refused != nil {
			x.Fail(refused.Code, refused.Reason)
			return true
		}
		x.Answer(r.Redirect.Status, "", nil)
		x.Response.Header.Add("Location", location)
		return true
	}
	return false
}

// compiler makes routes of one configuration. What was made before is used again.
type compiler struct {
	before    *made
	config    *config.Config
	panics    *telemetry.Panics
	routing   *routing.Compiler
	services  *upstream.Registry
	counters  *telemetry.Registry
	pipelines map[string]madeOf[*pipeline.Pipeline] // by id
	chains    map[[2]string]*pipeline.Chain
	pages     map[[2]string]madeOf[*errorpage.Pages]
	limits    *ratelimit.Node
	limitsOf  map[string]madeOf[[]*ratelimit.Limit] // by policy's id
	sets      map[[2]string]*ratelimit.Set          // by the ids of a route's and a service's policy
}

func (c *compiler) route(e *config.Entry) (*match.Rule, error) {
	msg := e.Message.(*configv1.Route)
	base, rule, err := c.routing.Route(msg)
	if err != nil {
		return nil, err
	}
	r := &Route{Route: *base, Local: c.counters.Route(telemetry.Key{RouteID: e.ID(), Route: e.Name()})}
	if r.Route.Mirror != nil {
		client := subrequest.NewClient(c.services.Get(r.Route.Mirror.ServiceID), c.panics)
		if client == nil {
			return nil, fmt.Errorf("mirror: there is no service %s", r.Route.Mirror.ServiceID)
		}
		r.Mirror = mirror.New(e.Name(), client, r.Route.Mirror, c.counters.Sets(), c.panics)
	}
	for _, share := range r.Split.Shares {
		b, err := c.backend(e, msg, share.ServiceID)
		if err != nil {
			return nil, err
		}
		if r.Challenge {
			b.Chain = nil
		}
		r.Backends = append(r.Backends, b)
	}
	if r.Split.ByConsumer && len(r.Backends) > 1 {
		if r.Undecided, err = c.undecided(r, msg); err != nil {
			return nil, err
		}
	}
	rule.Value = r
	return rule, nil
}

func (c *compiler) backend(e *config.Entry, msg *configv1.Route, serviceID string) (Backend, error) {
	var b Backend
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
	b.Retries = config.RetriesOf(c.policy(msg.GetPolicyId()), c.policy(svc.GetPolicyId()))
	b.Limits.Priority = config.PriorityOf(msg, &b.Limits)
	b.Priority = b.Limits.ByGroup.First(b.Limits.Priority)
	if f := msg.GetFault(); f != nil {
		b.Limits.Fault = f
	}
	var err error
	if b.RateLimits, err = c.rateLimits(msg, svc); err != nil {
		return b, err
	}
	if b.Fault, err = injection.New(b.Limits.Fault, msg.GetName(), c.counters.Sets()); err != nil {
		return b, err
	}
	if b.Errors, err = c.errors(msg.GetPolicyId(), svc.GetPolicyId()); err != nil {
		return b, err
	}
	b.Count = c.counters.Route(telemetry.Key{RouteID: e.ID(), Route: e.Name(), ServiceID: serviceID, Service: svc.GetName()})
	b.Chain, err = c.chain(svc.GetPipelineId(), msg.GetPipelineId())
	return b, err
}

// undecided returns what stands for all backends of a route. Its limits are the loosest of theirs: those of the chosen
// one come on top.
func (c *compiler) undecided(r *Route, msg *configv1.Route) (*Backend, error) {
	b := &Backend{Count: r.Local, Limits: config.LimitsOf(c.policy(msg.GetPolicyId()), nil)}
	b.Limits.Timeout, b.Limits.MaxRequestBytes, b.Priority = r.Backends[0].Limits.Timeout, 0, config.PriorityLow
	b.Limits.DeadlineHeader = "" // it is taken away by whoever reads it
	for i := range r.Backends {
		l := &r.Backends[i].Limits
		b.Limits.MaxRequestBytes = max(b.Limits.MaxRequestBytes, l.MaxRequestBytes)
		b.Priority = b.Priority.Before(r.Backends[i].Priority)
		if b.Limits.Timeout = max(b.Limits.Timeout, l.Timeout); l.Timeout == 0 {
			b.Limits.Timeout = 0
		}
	}
	var err error
	if b.Errors, err = c.errors(msg.GetPolicyId(), ""); err != nil {
		return nil, err
	}
	b.Chain, err = c.chain("", "")
	return b, err
}

// rateLimits returns the limits for a route and one of its services. Routes with the same policies share them.
func (c *compiler) rateLimits(route *configv1.Route, service *configv1.Service) (*ratelimit.Set, error) {
	key := [2]string{route.GetPolicyId(), service.GetPolicyId()}
	if s, made := c.sets[key]; made {
		return s, nil
	}
	of, err := c.limitsOfPolicy(route.GetPolicyId())
	if err != nil {
		return nil, err
	}
	under, err := c.limitsOfPolicy(service.GetPolicyId())
	if err != nil {
		return nil, err
	}
	if route.GetPolicyId() == service.GetPolicyId() {
		under = nil
	}
	c.sets[key] = ratelimit.NewSet(of, under)
	return c.sets[key], nil
}

func (c *compiler) limitsOfPolicy(id string) ([]*ratelimit.Limit, error) {
	e := c.config.ByID(config.Policy, id)
	if e == nil || len(e.Message.(*configv1.Policy).GetRateLimits()) == 0 {
		return nil, nil
	}
	if l, made := c.limitsOf[id]; made {
		return l.thing, nil
	}
	of := hashesOf(e)
	l, made := c.before.limitsOf[id]
	if !made || l.of != of {
		list, err := c.limits.Limits(ratelimit.Owner{Policy: e.Name()}, e.Message.(*configv1.Policy).GetRateLimits())
		if err != nil {
			return nil, err
		}
		l = madeOf[[]*ratelimit.Limit]{of, list}
	}
	c.limitsOf[id] = l
	return l.thing, nil
}

// errors returns the pages for a route's and a service's policy, over the global ones. Routes with the same pair share
// them.
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
	uses, err := c.routing.Pipelines().For(service, route)
	if err != nil {
		return nil, err
	}
	list := make([]*pipeline.Pipeline, len(uses))
	for i, u := range uses {
		list[i] = c.pipelines[u.Pipeline.ID()].thing
	}
	ch := pipeline.NewChain(c.panics, list...)
	c.chains[key] = ch
	return ch, nil
}

func millis(ms uint32) time.Duration { return time.Duration(ms) * time.Millisecond }
