// Package upstream holds the services that a node sends requests to: their endpoints, connections, health and
// balancing. Services are known by id and endpoints by address, so that all of it outlives changes of the
// configuration. It does not know routes.
package upstream

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/resolve"
	"gateway.internal/dataplane/internal/upstream/balance"
	"gateway.internal/dataplane/internal/upstream/health"
	"gateway.internal/dataplane/internal/upstream/outlier"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// Service is one backend. It is safe for concurrent use.
type Service struct {
	// ID is the service's; it never changes.
	ID string
	// Attempts count those of exchanges that may have several at once.
	Attempts AttemptCounts
	// Retries are what retries and hedges share.
	Retries Retries

	learning
	log    *slog.Logger
	dials  *dials
	labels map[string]string // the node's
	begin  uint64            // where the balancers' schedules begin, see balance.Settings
	// unobserve ends the observation for the balancer; nil: it does not ask for it. It belongs to whoever changes the
	// service.
	unobserve func()
	// stopEjecting ends the counting of results for ejections; nil: they are not counted. It belongs to whoever changes
	// the service.
	stopEjecting func()
	// current is what changes, as one.
	current atomic.Pointer[current]
}

type current struct {
	name      string
	transport *transport
	settings  config.ServiceSettings
	endpoints []*Endpoint
	balancer  *balance.Balancer
	hash      *hashKey // nil: the balancer does not ask for it
	timed     bool     // the balancer asks for the time
	source    Definition
	found     []*configv1.Endpoint // what discovery gave
	resolved  []resolvedEndpoint   // of endpoints
	named     bool                 // a host is a name, whose addresses may change
	// unresolved are the endpoints whose host has no address.
	unresolved []string
}

// Name returns the service's name.
func (s *Service) Name() string { return s.current.Load().name }

// SpeaksGRPC reports whether the service's protocol is gRPC.
func (s *Service) SpeaksGRPC() bool {
	p := s.current.Load().settings.Protocol
	return p == "grpc" || p == "grpcs"
}

// ResponseTimeout returns the longest wait for a response.
func (s *Service) ResponseTimeout() time.Duration {
	return s.current.Load().settings.Pool.ResponseTimeout
}

// Tried is the set of endpoints that an exchange has tried; see [Service.Pick].
type Tried struct{ states balance.Tried }

// Add adds an endpoint.
func (t *Tried) Add(e *Endpoint) { t.states.Add(&e.State) }

// Has reports whether an endpoint is in the set.
func (t *Tried) Has(e *Endpoint) bool { return t.states.Has(&e.State) }

// None reports whether the set is empty.
func (t *Tried) None() bool { return t.states.Len() == 0 }

// Clone returns a set of its own with the same endpoints.
func (t *Tried) Clone() Tried { return Tried{t.states.Clone()} }

// Pick chooses an endpoint for an exchange: none that it has tried while others are left, and then another than the
// last one. tried may be nil: it has tried none. nil: there is no endpoint to choose.
func (s *Service) Pick(x *exchange.Exchange, tried *Tried) *Endpoint {
	c := s.current.Load()
	var choice balance.Choice
	if tried != nil && tried.states.Len() > 0 {
		choice.Tried = &tried.states
	}
	if c.hash != nil && x != nil {
		a := c.hash.of(x)
		choice.Hash, choice.Keyed = a.Hash, a.Keyed
	}
	if c.timed && x != nil {
		choice.Now = balance.Moment(x.Now)
	}
	if i := c.balancer.Pick(choice); i >= 0 {
		return c.endpoints[i]
	}
	return nil
}

// Registry holds all services of a node. Its methods but Sweep are called by one goroutine at a time; Service values
// may be used meanwhile.
type Registry struct {
	log      *slog.Logger
	checker  *health.Checker
	outliers *outlier.Detector
	resolver *resolve.Resolver // nil: there is none
	labels   map[string]string // the node's
	place    func() uint64     // draws where a service's schedule begins
	told     map[useKey]use    // by Uses

	// changing is held by whoever changes services, before mu: only then are the map and what services have made anew.
	// What costs time, such as the tables of consistent_hash, is made without mu, for which requests of metrics wait.
	changing sync.Mutex
	mu       sync.Mutex // protects the map from those who only read it, and circuits
	services map[string]*Service
	circuits circuits
	stop     chan struct{}
	done     sync.WaitGroup
	dials    *dials
}

// sweepInterval is how often idle connections are looked at.
const sweepInterval = time.Second

// NewRegistry returns a registry without services. Close ends what it starts.
func NewRegistry(log *slog.Logger) *Registry {
	r := &Registry{
		log: log, checker: health.NewChecker(log, nil), outliers: outlier.New(log), services: map[string]*Service{},
		stop: make(chan struct{}), dials: newDials(), place: rand.Uint64,
	}
	r.done.Go(r.sweep)
	return r
}

// OnPanic has f told of what panics on connections to services, each of which ends then. It is called before the first
// Apply. Without it such panics go on.
func (r *Registry) OnPanic(f func(what, route string, v any)) { r.dials.panicked = f }

// OnNode tells which labels the node has: endpoints in its zone are preferred. It is called before the first Apply.
func (r *Registry) OnNode(labels map[string]string) { r.labels = labels }

// BeginAt has all schedules of balancers begin at a place, in units of 2^-64 of them, instead of one that is drawn for
// each service. It is called before the first Apply.
func (r *Registry) BeginAt(place uint64) { r.place = func() uint64 { return place } }

func (r *Registry) sweep() {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case now := <-tick.C:
			for _, e := range r.allEndpoints() {
				e.sweep(now)
			}
		}
	}
}

func (r *Registry) allEndpoints() []*Endpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*Endpoint
	for _, s := range r.services {
		all = append(all, s.current.Load().endpoints...)
	}
	return all
}

// Close ends checks and closes idle connections. Exchanges have to be over.
func (r *Registry) Close() {
	close(r.stop)
	r.dials.end()
	r.done.Wait()
	r.checker.Close()
	r.outliers.Close()
	for _, e := range r.allEndpoints() {
		e.close()
	}
}

// Get returns a service that Apply has set, or nil.
func (r *Registry) Get(id string) *Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.services[id]
}

// Apply makes these the services. found has the discovered endpoints by service id. What did not change goes on as it
// is; a service that is gone keeps answering who still holds it. A service that can't be set up stays as it was, and is
// a problem.
func (r *Registry) Apply(services map[string]Definition, found map[string][]*configv1.Endpoint) []*streamv1.Problem {
	r.resolve(services, found)
	var problems []*streamv1.Problem
	r.change(func() (gone []*Endpoint) {
		for id, d := range services {
			s := r.services[id]
			if s == nil {
				s = &Service{ID: id, log: r.log, dials: r.dials, labels: r.labels, begin: r.place()}
			}
			dropped, err := s.update(d, found[id], r.resolver)
			if err != nil {
				problems = append(problems, &streamv1.Problem{Kind: "service", Name: d.Service.GetName(), Field: "tls", Reason: err.Error()})
				continue
			}
			r.mu.Lock()
			r.services[id] = s
			r.force(s)
			r.share(s)
			r.mu.Unlock()
			gone = append(gone, dropped...)
		}
		for id, s := range r.services {
			if services[id].Service == nil {
				gone = append(gone, s.current.Load().endpoints...)
				r.mu.Lock()
				delete(r.services, id)
				r.unshare(id)
				r.mu.Unlock()
			}
		}
		return gone
	})
	return problems
}

// change changes services by do, which returns the endpoints that are gone, and has checks follow. mu is not held.
func (r *Registry) change(do func() (gone []*Endpoint)) {
	r.changing.Lock()
	defer r.changing.Unlock()
	gone := do()
	targets, judged := r.targets(), r.judged()
	r.checker.Set(targets)
	r.outliers.Set(judged)
	for _, e := range gone {
		e.close()
	}
}

// ApplyEndpoints changes the discovered endpoints of one service.
func (r *Registry) ApplyEndpoints(found map[string][]*configv1.Endpoint) {
	r.resolve(r.definitions(), found)
	r.change(func() (gone []*Endpoint) {
		for _, s := range r.services {
			if c := s.current.Load(); c.settings.Discovered {
				dropped, err := s.update(c.source, found[s.ID], r.resolver)
				if err != nil {
					r.log.Error("discovered endpoints can't be used", "service", c.name, "error", err.Error())
				}
				gone = append(gone, dropped...)
			}
		}
		return gone
	})
}

// update derives a service's current state and returns the endpoints that it no longer has.
func (s *Service) update(d Definition, found []*configv1.Endpoint, resolver *resolve.Resolver) (gone []*Endpoint, err error) {
	old := s.current.Load()
	at, unresolved := resolveEndpoints(endpointsOf(d, found), resolver)
	var before *transport
	if old != nil {
		if old.source == d && sameEndpoints(old.resolved, at) && slices.Equal(old.unresolved, unresolved) {
			return nil, nil
		}
		before = old.transport
	}
	next := &current{
		name: d.Service.GetName(), settings: config.ServiceSettingsOf(d.Service), source: d, found: found,
		resolved: at, unresolved: unresolved,
		named: hasNames(endpointsOf(d, found)),
	}
	if next.transport, err = newTransport(d, before); err != nil {
		return nil, err
	}
	have := map[string]*Endpoint{}
	var balancer *balance.Balancer
	if old != nil {
		balancer = old.balancer
		for _, e := range old.endpoints {
			have[e.key] = e
		}
	}
	targets := make([]balance.Target, 0, len(at))
	for _, p := range at {
		e := have[p.key()]
		if e != nil {
			delete(have, e.key)
		} else {
			e = newEndpoint(p, s.log, s.dials)
			e.State.Begin()
			if check := next.settings.Check; check != nil && check.UnhealthyAtFirst {
				e.State.SetHealthy(false) // until its first check
			}
		}
		e.set(next.name, next.settings.Pool, next.transport)
		next.endpoints = append(next.endpoints, e)
		targets = append(targets, balance.Target{
			State: &e.State, Weight: config.Weight(p.entry), Key: e.Address(), Tier: s.tier(&next.settings.Balancing, p.entry),
		})
	}
	next.balance(targets, balancer, s.begin)
	s.setCircuit(next.settings.Circuit)
	s.current.Store(next)
	s.observe(next)
	for _, e := range have {
		e.gone.Store(true)
		gone = append(gone, e)
	}
	return gone, nil
}

func (r *Registry) targets() []health.Target {
	var targets []health.Target
	for _, s := range r.services {
		c := s.current.Load()
		if c.settings.Check == nil {
			continue
		}
		for _, e := range c.endpoints {
			targets = append(targets, health.Target{
				ServiceID: s.ID, Service: c.name, Host: e.Host, Port: e.Port, Dial: e.dialed(), State: &e.State, Check: *c.settings.Check,
				TLS: e.settings.Load().tls, HTTP2: c.transport.http2 == always,
			})
		}
	}
	return targets
}

// Health returns the verdicts of checks that are new since the last call, and the endpoints of which there is none
// any more; all asks for every verdict.
func (r *Registry) Health(all bool) (verdicts []*streamv1.EndpointHealth, unchecked []*streamv1.UncheckedEndpoint) {
	return r.checker.Report(all)
}

// maxFleet bounds what is believed about the size of a fleet.
const maxFleet = 100_000

// ShareChecks tells how many nodes check the same endpoints, and which endpoints to look at soon; each may be nil. It
// is safe for concurrent use.
func (r *Registry) ShareChecks(size *streamv1.FleetSize, look *streamv1.CheckDirective) {
	if size != nil {
		r.checker.SetNodes(int(min(size.GetNodes(), maxFleet)))
	}
	if look != nil {
		r.checker.Look(look.GetEndpoints())
	}
}

// UnshareChecks tells that nobody knows any more how many nodes there are. It is safe for concurrent use.
func (r *Registry) UnshareChecks() { r.checker.Unshared() }

var healthDesc = prometheus.NewDesc("gateway_service_health",
	"1 when the endpoint takes traffic, 0 when its checks failed or it is ejected.", []string{"service", "endpoint"}, nil)

var (
	pendingDesc = prometheus.NewDesc("gateway_upstream_pending_requests",
		"Requests that wait for a connection to the endpoint, or for a stream on one.", []string{"service", "endpoint"}, nil)
	pendingRefusedDesc = prometheus.NewDesc("gateway_upstream_pending_refused_total",
		"Requests that were answered with 503 because as many as max_pending waited for a connection to the endpoint already.", []string{"service", "endpoint"}, nil)
)

// Describe implements prometheus.Collector.
func (r *Registry) Describe(ch chan<- *prometheus.Desc) {
	r.outliers.Describe(ch)
	ch <- healthDesc
	ch <- pendingDesc
	ch <- pendingRefusedDesc
	ch <- circuitDesc
	ch <- circuitChangesDesc
	ch <- circuitRejectedDesc
	ch <- circuitTimesDesc
	ch <- circuitLimitDesc
	ch <- circuitMinRTTDesc
	ch <- attemptsDesc
	ch <- attemptsRefusedDesc
	ch <- retriesDesc
	ch <- exhaustedDesc
	ch <- hedgesDesc
}

// Collect implements prometheus.Collector.
func (r *Registry) Collect(ch chan<- prometheus.Metric) {
	r.outliers.Collect(ch)
	r.mu.Lock()
	defer r.mu.Unlock()
	// While a configuration is being applied the services of the one before are still there, perhaps under the names of
	// new ones.
	series := map[[2]string]figures{}
	names := map[string]bool{}
	for _, s := range r.services {
		c := s.current.Load()
		if !names[c.name] {
			names[c.name] = true
			s.Attempts.collect(ch, c.name)
			s.Retries.collect(ch, c.name)
			s.collectCircuit(ch, c.name)
		}
		for _, e := range c.endpoints {
			labels := [2]string{c.name, e.address}
			of := series[labels]
			if e.State.Healthy() {
				of.healthy = 1
			}
			of.pending += float64(e.queue.len.Load())
			of.refused += float64(e.queue.refused.Load())
			series[labels] = of
		}
		for _, endpoint := range c.unresolved {
			labels := [2]string{c.name, endpoint}
			if _, is := series[labels]; !is {
				series[labels] = figures{}
			}
		}
	}
	for labels, of := range series {
		ch <- prometheus.MustNewConstMetric(healthDesc, prometheus.GaugeValue, of.healthy, labels[0], labels[1])
		ch <- prometheus.MustNewConstMetric(pendingDesc, prometheus.GaugeValue, of.pending, labels[0], labels[1])
		ch <- prometheus.MustNewConstMetric(pendingRefusedDesc, prometheus.CounterValue, of.refused, labels[0], labels[1])
	}
}

// figures are what is told of an endpoint.
type figures struct{ healthy, pending, refused float64 }
