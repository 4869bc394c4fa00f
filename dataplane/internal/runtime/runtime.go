// Package runtime compiles configurations into what exchanges run on, and swaps one for the next with one pointer. An
// exchange that has begun goes on with the snapshot that it began with. What lives longer, connections, health and
// counters, is kept in upstream and telemetry, by identity.
package runtime

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/certificate"
	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/egress"
	"gateway.internal/dataplane/internal/errorpage"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/middleware"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/ratelimit"
	"gateway.internal/dataplane/internal/subrequest"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/match"
	middlewaretypes "gateway.internal/shared/middleware"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/routing"
)

// Snapshot is a compiled configuration. It is immutable.
type Snapshot struct {
	// Revision and Hash identify the configuration.
	Revision uint32
	Hash     [32]byte
	// Epoch is the store's that the revision is of.
	Epoch string
	// Traffic is what counters tell exchanges of this snapshot from others by; nil: nobody asks.
	Traffic *telemetry.Version
	// AppliedAt is when it became the node's.
	AppliedAt time.Time
	// Tables find routes: each rule's Value is a *Route.
	routing.Tables
	// Certificates are what clients are shown over TLS.
	Certificates *certificate.Set
	// Errors are what clients are shown of errors of requests that no route takes; nil: the gateway's own JSON.
	Errors *errorpage.Pages

	config *config.Config
}

// Version is a configuration to run.
type Version struct {
	Epoch    string
	Revision uint32
	Config   *config.Config
	// Untold says that no reports are made: what each revision has served is not counted apart, since only reports let
	// go of it.
	Untold bool
}

// Runtime holds the node's snapshot. Apply and ApplyEndpoints exclude each other; all else may run at any time.
type Runtime struct {
	log      *slog.Logger
	services *upstream.Registry
	counters *telemetry.Registry
	panics   *telemetry.Panics
	tickets  *certificate.Tickets
	live     *live.Store
	limits   *ratelimit.Node
	egress   *egress.Client
	now      func() time.Time
	// newStep is middleware.New, but in tests.
	newStep  func(typeName string, settings proto.Message, env *pipeline.Environment) (pipeline.Step, error)
	snapshot atomic.Pointer[Snapshot]
	// consumers are apart from the snapshot: they change by themselves, and routes are not compiled anew.
	consumers atomic.Pointer[consumer.Set]

	applied, applyNanos, refused atomic.Uint64

	mu       sync.Mutex
	rules    map[string]*match.Rule // by route id
	paths    *routing.PathForms
	made     made
	found    map[string][]*configv1.Endpoint
	reporter *telemetry.Reporter
}

// New returns a runtime without a snapshot. tickets make the sessions of TLS clients resumable.
func New(log *slog.Logger, services *upstream.Registry, counters *telemetry.Registry, tickets *certificate.Tickets) *Runtime {
	r := &Runtime{
		log: log, services: services, counters: counters, panics: counters.Panics(log), tickets: tickets, now: time.Now,
		newStep: middleware.New, rules: map[string]*match.Rule{}, reporter: counters.NewReporter(),
	}
	r.live = live.NewStore(log, r.panics)
	r.limits = ratelimit.NewNode(r.live, counters.Sets())
	services.OnPanic(r.panics.Caught)
	r.UsePaths(pathnorm.DefaultSettings())
	r.consumers.Store(&consumer.Set{})
	return r
}

// UsePaths makes these the node's settings for paths, instead of the default ones. It is called before the first Apply,
// with what Check has passed.
func (r *Runtime) UsePaths(s pathnorm.Settings) {
	r.paths = routing.NewPathForms(s)
}

// UseClock makes middleware take the time from a clock, instead of the machine's. It is called before the first Apply.
func (r *Runtime) UseClock(now func() time.Time) { r.now = now }

// Limits counts requests against limits.
func (r *Runtime) Limits() *ratelimit.Node { return r.limits }

// UseEgress makes middleware ask servers outside by a client, instead of one with the zero policy. It is called before
// the first Apply.
func (r *Runtime) UseEgress(c *egress.Client) { r.egress = c }

// Close closes what middleware has kept, when no exchange is under way any more. Nothing is applied afterwards.
func (r *Runtime) Close() {
	r.limits.Close()
	r.live.Close()
}

// Panics is told of defects that end one exchange.
func (r *Runtime) Panics() *telemetry.Panics { return r.panics }

// Snapshot returns what exchanges run on; nil before the first Apply.
func (r *Runtime) Snapshot() *Snapshot { return r.snapshot.Load() }

// Consumers returns the client applications. It takes no lock.
func (r *Runtime) Consumers() *consumer.Set { return r.consumers.Load() }

// ApplyConsumers makes these the node's consumers.
func (r *Runtime) ApplyConsumers(s *consumer.Set) { r.consumers.Store(s) }

// Count returns the number of resources of a kind; 0 before the first Apply.
func (r *Runtime) Count(k config.Kind) int {
	s := r.snapshot.Load()
	switch {
	case k == config.Consumer:
		return r.consumers.Load().Len()
	case s == nil:
		return 0
	}
	return s.config.Len(k)
}

// Discovered reports whether endpoints were applied, be they none, for each service that is to have discovered ones.
func (r *Runtime) Discovered() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.snapshot.Load()
	if s == nil {
		return true
	}
	for e := range s.config.All(config.Service) {
		if _, ok := r.found[e.ID()]; !ok && e.Message.(*configv1.Service).GetDiscovery() != nil {
			return false
		}
	}
	return true
}

// Certificates returns what clients are shown over TLS; nil before the first Apply.
func (r *Runtime) Certificates() *certificate.Set {
	if s := r.snapshot.Load(); s != nil {
		return s.Certificates
	}
	return nil
}

// Apply compiles a configuration, as far as it differs from the one before, and makes it the node's. Where something
// can't be compiled, all that is wrong is returned and the node keeps what it had.
func (r *Runtime) Apply(v Version) []*streamv1.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	start := time.Now()
	old := config.Empty()
	tables := routing.NewTables(r.paths.Node())
	var certificates *certificate.Set
	if s := r.snapshot.Load(); s != nil {
		old, tables, certificates = s.config, s.Tables, s.Certificates
	}
	changes := config.DiffOf(old, v.Config, config.Together()...)
	if s := r.snapshot.Load(); s != nil && len(changes) == 0 { // consumers have changed, or nothing has
		next := *s
		next.Revision, next.Hash, next.Epoch, next.AppliedAt = v.Revision, v.Config.Hash(), v.Epoch, start
		next.config, next.Traffic = v.Config, r.trafficOf(v)
		r.snapshot.Store(&next)
		r.applied.Add(1)
		r.applyNanos.Add(uint64(time.Since(start)))
		return nil
	}
	affected := affectedRoutes(old, v.Config, changes)

	// Services first: routes hold them. Nothing that an exchange in flight holds is taken away by this.
	services, before := definitions(v.Config), definitions(old)
	// Until the routes are compiled nothing may be taken from the snapshot in force, so removed services stay for now.
	union := maps.Clone(before)
	maps.Copy(union, services)
	problems := r.services.Apply(union, r.found)

	if certificates == nil || slices.ContainsFunc(changes, func(ch config.Change) bool { return ch.Kind == config.Certificate }) {
		var problem *streamv1.Problem
		if certificates, problem = certificate.Compile(v.Config, r.tickets, certificates); problem != nil {
			problems = append(problems, problem)
		}
	}
	c, broken := r.compiler(v.Config)
	problems = append(problems, broken...)
	pages, err := c.errors("", "")
	if err != nil {
		problems = append(problems, &streamv1.Problem{Kind: "policy", Name: v.Config.GlobalPolicy().GetName(), Field: "errors", Reason: err.Error()})
	}
	var remove []string
	var add []*match.Rule
	for _, id := range affected {
		if r.rules[id] != nil {
			remove = append(remove, id)
		}
		e := v.Config.ByID(config.Route, id)
		if e == nil || !routing.Enabled(e.Message.(*configv1.Route)) {
			continue
		}
		rule, err := c.route(e)
		if err != nil {
			problems = append(problems, &streamv1.Problem{Kind: "route", Name: e.Name(), Reason: err.Error()})
			continue
		}
		add = append(add, rule)
	}
	if len(problems) > 0 {
		r.services.Apply(before, r.found)
		r.refused.Add(1)
		return problems
	}
	r.snapshot.Store(&Snapshot{
		Revision: v.Revision, Hash: v.Config.Hash(), Epoch: v.Epoch, AppliedAt: time.Now(), config: v.Config,
		Tables: tables.With(remove, add), Certificates: certificates, Errors: pages,
		Traffic: r.trafficOf(v),
	})
	r.services.Apply(services, r.found)
	r.replace(remove, add)
	r.made.keep(c, changes)
	r.applied.Add(1)
	r.applyNanos.Add(uint64(time.Since(start)))
	return nil
}

// trafficOf returns what exchanges of a version are counted for.
func (r *Runtime) trafficOf(v Version) *telemetry.Version {
	if v.Untold {
		return nil
	}
	return r.counters.NewVersion(v.Epoch, v.Revision)
}

// definitions returns the services of a configuration with what else upstream needs for them.
func definitions(c *config.Config) map[string]upstream.Definition {
	all := map[string]upstream.Definition{}
	for e := range c.All(config.Service) {
		d := upstream.Definition{Service: e.Message.(*configv1.Service)}
		if id := d.Service.GetTls().GetCertificateId(); id != "" {
			if ce := c.ByID(config.Certificate, id); ce != nil {
				d.Certificate = ce.Message.(*configv1.Certificate)
			}
		}
		all[e.ID()] = d
	}
	return all
}

// replace makes the rules those of the snapshot, and lets go of the counters of routes that are gone.
func (r *Runtime) replace(remove []string, add []*match.Rule) {
	gone := map[telemetry.Key]bool{}
	for _, id := range remove {
		for _, k := range r.rules[id].Value.(*Route).keys() {
			gone[k] = true
		}
		delete(r.rules, id)
	}
	for _, rule := range add {
		r.rules[rule.ID] = rule
		for _, k := range rule.Value.(*Route).keys() {
			delete(gone, k)
		}
	}
	r.counters.Forget(gone)
}

// compiler makes the pipelines of a configuration.
func (r *Runtime) compiler(c *config.Config) (*compiler, []*streamv1.Problem) {
	var problems []*streamv1.Problem
	comp := &compiler{
		before: &r.made, config: c, panics: r.panics, routing: routing.NewCompiler(c, r.paths), services: r.services,
		counters: r.counters, pipelines: map[string]madeOf[*pipeline.Pipeline]{}, chains: map[[2]string]*pipeline.Chain{},
		pages: map[[2]string]madeOf[*errorpage.Pages]{}, limits: r.limits,
		limitsOf: map[string]madeOf[[]*ratelimit.Limit]{}, sets: map[[2]string]*ratelimit.Set{},
	}
	for _, e := range comp.routing.Pipelines().All() {
		of := ofPipeline(c, e)
		p, made := r.made.pipelines[e.ID()]
		if !made || p.of != of {
			built, problem := r.buildPipeline(c, e)
			if problem != nil {
				problems = append(problems, problem)
				continue
			}
			p = madeOf[*pipeline.Pipeline]{of, built}
		}
		comp.pipelines[e.ID()] = p
	}
	return comp, problems
}

func (r *Runtime) buildPipeline(c *config.Config, e *config.Entry) (*pipeline.Pipeline, *streamv1.Problem) {
	msg := e.Message.(*configv1.Pipeline)
	p := &pipeline.Pipeline{Name: msg.GetName(), Parallel: msg.GetParallel(), Timeout: millis(msg.GetTimeoutMs())}
	list, err := routing.Steps(c, e)
	if err != nil {
		return nil, &streamv1.Problem{Kind: "pipeline", Name: e.Name(), Field: "middleware_ids", Reason: err.Error()}
	}
	for _, m := range list {
		waits := middlewaretypes.WaitsNever
		if typ, ok := middlewaretypes.Lookup(m.Message.(*configv1.Middleware).GetType()); ok {
			waits = typ.Waits
		}
		step, err := r.step(m)
		if err != nil {
			return nil, &streamv1.Problem{Kind: "middleware", Name: m.Name(), Field: "config", Reason: err.Error()}
		}
		p.Steps = append(p.Steps, pipeline.NamedStep{Name: m.Name(), Step: step, Waits: waits})
	}
	return p, nil
}

// step makes the step of a middleware. One whose constructor panics can't be made.
func (r *Runtime) step(m *config.Entry) (step pipeline.Step, err error) {
	defer func() {
		if v := recover(); v != nil {
			r.panics.Contained("making the middleware "+m.Name(), v)
			step, err = nil, fmt.Errorf("making it panicked: %v", v)
		}
	}()
	typ := m.Message.(*configv1.Middleware).GetType()
	return r.newStep(typ, m.Settings, r.environment(typ, m.Name()))
}

// environment is what the step of a middleware gets besides its settings.
func (r *Runtime) environment(typ, name string) *pipeline.Environment {
	return &pipeline.Environment{
		Name: name, Log: r.log.With("middleware", name), Now: r.now, Live: r.live, Limits: r.limits,
		Egress:    r.egress,
		Metrics:   r.counters.Sets().Of("gateway_"+typ+"_", "middleware", name),
		Consumers: r.Consumers,
		Service:   func(id string) *subrequest.Client { return subrequest.NewClient(r.services.Get(id), r.panics) },
	}
}

// affectedRoutes returns the ids of the routes that have to be compiled anew: those that changed, and those that depend
// on something that did.
func affectedRoutes(old, next *config.Config, changes []config.Change) []string {
	ids := map[string]bool{}
	changed := map[config.Kind]map[string]bool{}
	all := false
	mark := func(k config.Kind, id string) {
		if changed[k] == nil {
			changed[k] = map[string]bool{}
		}
		changed[k][id] = true
	}
	for _, ch := range changes {
		switch ch.Kind {
		case config.Route:
			ids[ch.ID()] = true
		case config.Service:
			before, after := ch.Messages()
			if b, ok := before.(*configv1.Service); ok {
				if a, ok := after.(*configv1.Service); ok && a.GetName() == b.GetName() &&
					a.GetPolicyId() == b.GetPolicyId() && a.GetPipelineId() == b.GetPipelineId() {
					continue // only what upstream takes care of
				}
			}
			mark(ch.Kind, ch.ID())
		case config.Policy:
			before, after := ch.Messages()
			all = all || isGlobal(before) || isGlobal(after)
			mark(ch.Kind, ch.ID())
		case config.Pipeline, config.Middleware:
			mark(ch.Kind, ch.ID())
		}
	}
	if len(changed) > 0 {
		for _, c := range []*config.Config{old, next} {
			for e := range c.All(config.Pipeline) {
				p := e.Message.(*configv1.Pipeline)
				for _, id := range p.GetMiddlewareIds() {
					if changed[config.Middleware][id] {
						mark(config.Pipeline, e.ID())
					}
				}
				all = all || p.GetGlobal() && changed[config.Pipeline][e.ID()]
			}
		}
		for e := range next.All(config.Route) {
			if all || dependsOn(next, e.Message.(*configv1.Route), changed) {
				ids[e.ID()] = true
			}
		}
	}
	return slices.Collect(maps.Keys(ids))
}

func isGlobal(m config.Message) bool {
	p, ok := m.(*configv1.Policy)
	return ok && p.GetGlobal()
}

func dependsOn(c *config.Config, r *configv1.Route, changed map[config.Kind]map[string]bool) bool {
	if changed[config.Pipeline][r.GetPipelineId()] || changed[config.Policy][r.GetPolicyId()] {
		return true
	}
	service := func(id string) bool {
		if id == "" {
			return false
		}
		if changed[config.Service][id] {
			return true
		}
		e := c.ByID(config.Service, id)
		if e == nil {
			return false
		}
		s := e.Message.(*configv1.Service)
		return changed[config.Pipeline][s.GetPipelineId()] || changed[config.Policy][s.GetPolicyId()]
	}
	if service(r.GetServiceId()) || changed[config.Service][r.GetMirror().GetServiceId()] {
		return true
	}
	return slices.ContainsFunc(r.GetBackends(), func(b *configv1.Backend) bool { return service(b.GetServiceId()) })
}

// ApplyEndpoints makes these the discovered endpoints of all services, by id. Routes are not touched.
func (r *Runtime) ApplyEndpoints(found map[string][]*configv1.Endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = found
	r.services.ApplyEndpoints(found)
}

// Direct does at once what the control plane says. What it does not know it ignores.
func (r *Runtime) Direct(d *streamv1.Directive) {
	if c := d.GetCircuit(); c != nil {
		r.services.DirectCircuit(c)
	}
	if l := d.GetLimit(); l != nil {
		r.limits.Direct(l)
	}
	r.services.ShareChecks(d.GetFleetSize(), d.GetCheck())
}

// Undirected has the node be on its own after a while, unless a control plane says something else.
func (r *Runtime) Undirected() { r.services.UnshareChecks() }

// Report returns what happened since the last report that was committed. all asks for the health of every endpoint.
// commit is told how many of the report's routes were sent.
func (r *Runtime) Report(all bool) (report *streamv1.Report, commit func(sent int)) {
	traffic, connections, commit := r.reporter.Report()
	report = &streamv1.Report{ActiveConnections: connections, Routes: traffic}
	report.Endpoints, report.Unchecked = r.services.Health(all)
	report.Uses = r.services.Uses(all)
	report.Circuits = r.services.Circuits(all)
	report.Limits = r.limits.Answers()
	if s := r.snapshot.Load(); s != nil {
		report.Revision, report.Epoch = s.Revision, s.Epoch
	}
	for _, t := range traffic {
		if t.GetEpoch() == report.GetEpoch() {
			t.Epoch = "" // the report says it
		}
	}
	return report, commit
}
