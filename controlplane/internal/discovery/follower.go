package discovery

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// Run keeps the catalog's endpoints of all services that ask for discovery as the sources find them, until ctx ends and
// everything it started has ended. What is found is kept in s, the catalog's store. Metrics are registered with
// registry.
func Run(
	ctx context.Context, c *catalog.Catalog, s store.Store, sources []Source, registry prometheus.Registerer, log *slog.Logger,
) error {
	m := newMetrics(registry)
	f := &follower{
		catalog: c, log: log, metrics: m, sources: sources, keeper: newKeeper(s, m.unsaved, log),
		tracked: map[string]trackedQuery{}, answers: map[string]string{}, lost: map[string]error{},
		unknown: map[string]bool{},
	}
	var running sync.WaitGroup
	running.Go(func() { f.keeper.run(ctx) })
	for _, s := range sources {
		f.metrics.up.WithLabelValues(s.Name()).Set(0)
		f.metrics.bad.WithLabelValues(s.Name())
		f.metrics.kept.WithLabelValues(s.Name())
		running.Go(func() { s.Run(ctx, &Report{source: s.Name(), f: f}) })
	}
	f.followCatalog(ctx)
	running.Wait()
	return nil
}

// takeOverInterval is how often it is looked whether others have found what is missing here.
const takeOverInterval = 5 * time.Second

// follower brings together what services want and what sources find.
type follower struct {
	catalog *catalog.Catalog
	log     *slog.Logger
	metrics *metrics
	sources []Source
	keeper  *keeper

	mu      sync.Mutex              // of all below, and held while the catalog's endpoints are changed
	tracked map[string]trackedQuery // by service id
	answers map[string]string       // by service id: the question that the catalog's endpoints are the answer to
	lost    map[string]error        // by source: it is away, and why; absent: it was not heard of yet
	unknown map[string]bool         // ids of services whose source this control plane does not have; told once
}

// trackedQuery is a query with what became of it.
type trackedQuery struct {
	Query
	source   string
	question string
	// kept: the registry has no endpoint any more, and the last known ones stay.
	kept bool
	// answered: the registry was heard of what is asked.
	answered bool
}

// followCatalog tells the sources what the newest configuration wants, until ctx ends.
func (f *follower) followCatalog(ctx context.Context) {
	var seen *catalog.Version
	look := time.NewTicker(takeOverInterval)
	defer look.Stop()
	for {
		changed := f.catalog.Changed()
		if v := f.catalog.Current(); v != nil && v != seen {
			if seen == nil || seen.Epoch != v.Epoch { // the store is new to this process, or was replaced
				// The configuration may not be older than what is kept: that of a new service would be forgotten.
				known, err := f.keeper.read(ctx, f.catalog.Refresh)
				if err != nil {
					return // ctx has ended
				}
				v = f.catalog.Current()
				f.follow(v.Config, known)
				f.keepAll()
			} else {
				f.follow(v.Config, nil)
			}
			seen = v
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-look.C:
			f.takeOver(ctx)
		}
	}
}

// follow takes over what a configuration wants. known is what the store has, where it was read anew.
func (f *follower) follow(c *config.Config, known []store.Discovered) {
	bySource := map[string]map[string]Query{}
	for e := range c.All(config.Service) {
		s, ok := e.Message.(*configv1.Service)
		if !ok || s.GetDiscovery() == nil {
			continue
		}
		name := sourceOf(s.GetDiscovery())
		if bySource[name] == nil {
			bySource[name] = map[string]Query{}
		}
		bySource[name][s.GetId()] = Query{ServiceID: s.GetId(), ServiceName: s.GetName(), Discovery: s.GetDiscovery()}
	}
	changed := f.track(bySource, known)
	for _, s := range f.sources {
		if changed[s.Name()] {
			s.Follow(bySource[s.Name()])
		}
	}
}

// sourceOf returns the name of the oneof's field that is set, "" when there is none.
func sourceOf(d *configv1.Discovery) string {
	m := d.ProtoReflect()
	if field := m.WhichOneof(m.Descriptor().Oneofs().ByName("source")); field != nil {
		return string(field.Name())
	}
	return ""
}

// track takes over what is asked for from now on, forgets what nobody asks for, and returns the names of the sources
// for which anything changed.
func (f *follower) track(bySource map[string]map[string]Query, known []store.Discovered) map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := map[string]bool{}
	renamed := map[string]trackedQuery{}
	for id, old := range f.tracked {
		now, still := bySource[old.source][id]
		if still && now.ServiceName == old.ServiceName {
			continue
		}
		f.metrics.endpoints.DeleteLabelValues(old.source, old.ServiceName)
		if still {
			renamed[id] = trackedQuery{Query: now, source: old.source}
			continue
		}
		changed[old.source] = true
		f.setKept(old, false)
		delete(f.tracked, id)
		delete(f.unknown, id)
	}
	for id, now := range renamed { // after all old names are gone, of which some may be new ones too
		f.count(now.source, now.ServiceName, id)
	}
	for name, queries := range bySource {
		source := f.source(name)
		for id, q := range queries {
			old, was := f.tracked[id]
			if was && old.Query == q {
				continue
			}
			changed[name] = true
			now := trackedQuery{Query: q, source: name, question: questionTo(source, name, q)}
			if old.question == now.question {
				now.kept, now.answered = old.kept, old.answered
			} else {
				f.setKept(old, false)
			}
			f.tracked[id] = now
			if _, has := f.answers[id]; has && !was { // it comes from another source
				f.count(name, q.ServiceName, id)
			}
			if source == nil && !f.unknown[id] {
				f.unknown[id] = true
				f.log.Warn("a service asks for a discovery source that this control plane does not have",
					"service", q.ServiceName, "source", name)
			}
		}
	}
	f.restore(known)
	var gone []string
	for id := range f.answers {
		if _, wanted := f.tracked[id]; !wanted {
			gone = append(gone, id)
		}
	}
	f.forget(gone)
	return changed
}

// restore takes over what the store knows of services that have nothing yet, and has the store forget what nobody
// wants; the caller holds mu.
func (f *follower) restore(known []store.Discovered) {
	endpoints := map[string]catalog.RestoredEndpoints{}
	for _, d := range known {
		_, has := f.answers[d.ServiceID]
		switch _, wanted := f.tracked[d.ServiceID]; {
		case !wanted:
			f.keeper.forget(d.ServiceID)
		case !has:
			f.answers[d.ServiceID] = d.Question
			endpoints[d.ServiceID] = catalog.RestoredEndpoints{
				Set: &streamv1.ServiceEndpoints{ServiceId: d.ServiceID, Endpoints: d.Endpoints}, ChangedAt: d.ChangedAt,
			}
		}
	}
	f.catalog.RestoreEndpoints(endpoints)
	for id := range endpoints {
		f.count(f.tracked[id].source, f.tracked[id].ServiceName, id)
	}
}

// takeOver gives services that have nothing, and whose registry is away, what the store has of what they ask for:
// another control plane has found it since the store was read.
func (f *follower) takeOver(ctx context.Context) {
	if !f.lacking() {
		return
	}
	known, err := f.keeper.store.Discovered(ctx)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, store.ErrUnavailable) { // which the store says itself
			f.log.Error("what other control planes have discovered can't be read", "error", err.Error())
		}
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// What is kept of services that are not wanted may be of a revision that this process has not seen yet.
	f.restore(slices.DeleteFunc(known, func(d store.Discovered) bool {
		a, wanted := f.tracked[d.ServiceID]
		return !wanted || !f.lacks(a) || a.question != d.Question
	}))
}

// lacking reports whether there is anything to take over.
func (f *follower) lacking() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.tracked {
		if f.lacks(a) {
			return true
		}
	}
	return false
}

// lacks reports whether a service has nothing, and its registry is away; the caller holds mu.
func (f *follower) lacks(a trackedQuery) bool {
	_, has := f.answers[a.ServiceID]
	err, heard := f.lost[a.source]
	return !has && a.question != "" && (!heard || err != nil)
}

// keepAll has everything kept that sources which are up stand by: the store may have lost it. What a source that is
// away said last may be older than what the store has by others.
func (f *follower) keepAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.answers {
		if err, heard := f.lost[f.tracked[id].source]; heard && err == nil {
			f.keep(id)
		}
	}
}

// keep has the store keep what is published for a service; the caller holds mu.
func (f *follower) keep(id string) {
	published := f.catalog.Endpoints()
	f.keeper.keep(store.Discovered{
		ServiceID: id, Question: f.answers[id], Endpoints: published.Services[id].GetEndpoints(),
		ChangedAt: published.ChangedAt[id],
	})
}

// forget leaves services without endpoints; the caller holds mu.
func (f *follower) forget(ids []string) {
	if len(ids) == 0 {
		return
	}
	f.catalog.ChangeEndpoints(nil, ids)
	for _, id := range ids {
		delete(f.answers, id)
		f.keeper.forget(id)
	}
}

// source returns the one with a name, nil when this control plane does not have it.
func (f *follower) source(name string) Source {
	for _, s := range f.sources {
		if s.Name() == name {
			return s
		}
	}
	return nil
}

// questionTo returns what a query asks, "" where nobody can answer.
func questionTo(s Source, name string, q Query) string {
	if s == nil {
		return ""
	}
	return name + " " + s.Question(q)
}

func (f *follower) found(source string, answers map[Query][]*configv1.Endpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.catalog.Endpoints().Services
	changes := make(map[string][]*configv1.Endpoint, len(answers))
	var gone []string
	for q, endpoints := range answers {
		id := q.ServiceID
		a, wanted := f.tracked[id]
		if !wanted || a.source != source || a.question != questionTo(f.source(source), source, q) {
			continue // it was found for a configuration that is gone
		}
		a.answered = true
		f.tracked[id] = a
		question, has := f.answers[id]
		switch n := len(known[id].GetEndpoints()); {
		case len(endpoints) > 0 || a.Discovery.GetAllowEmpty():
			f.setKept(a, false)
			changes[id] = unique(endpoints)
		case n > 0 && question == a.question:
			if !a.kept {
				f.log.Warn("the registry has no endpoint of a service any more; the last known ones stay",
					"service", a.ServiceName, "source", source, "endpoints", n)
				f.setKept(a, true)
			}
		case has && question != a.question:
			f.log.Warn("the registry has no endpoint of what a service asks for now; those of what it asked for before go",
				"service", a.ServiceName, "source", source, "endpoints", n)
			gone = append(gone, id)
		}
	}
	f.forget(gone)
	for _, id := range gone {
		f.count(source, f.tracked[id].ServiceName, id)
	}
	f.catalog.ChangeEndpoints(changes, nil)
	f.publishNothing()
	for id := range changes {
		f.answers[id] = f.tracked[id].question
		f.count(source, f.tracked[id].ServiceName, id)
		f.keep(id)
	}
}

// publishNothing tells nodes that there are no endpoints, where nothing was published and everything is answered. They
// may have some from another process, of what a service asked for before. The caller holds mu.
func (f *follower) publishNothing() {
	if f.catalog.Endpoints().Version != 0 {
		return
	}
	for _, a := range f.tracked {
		if !a.answered {
			return
		}
	}
	f.catalog.PublishEndpoints()
}

// unique leaves out endpoints with a host and port that came before.
func unique(endpoints []*configv1.Endpoint) []*configv1.Endpoint {
	seen := make(map[string]bool, len(endpoints))
	out := make([]*configv1.Endpoint, 0, len(endpoints))
	for _, e := range endpoints {
		key := config.EndpointKey(e)
		if !seen[key] {
			seen[key] = true
			out = append(out, e)
		}
	}
	return out
}

// count shows how many endpoints a service has; the caller holds mu.
func (f *follower) count(source, service, id string) {
	set := f.catalog.Endpoints().Services[id]
	f.metrics.endpoints.WithLabelValues(source, service).Set(float64(len(set.GetEndpoints())))
}

// setKept notes whether last known endpoints stay; the caller holds mu.
func (f *follower) setKept(a trackedQuery, kept bool) {
	if a.kept == kept {
		return
	}
	a.kept = kept
	f.tracked[a.ServiceID] = a
	if kept {
		f.metrics.kept.WithLabelValues(a.source).Inc()
	} else {
		f.metrics.kept.WithLabelValues(a.source).Dec()
	}
}

func (f *follower) up(source string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err, heard := f.lost[source]; heard && err == nil {
		return
	}
	f.lost[source] = nil
	f.metrics.up.WithLabelValues(source).Set(1)
	f.log.Info("discovery follows the registry", "source", source)
}

func (f *follower) down(source string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost[source] != nil {
		return
	}
	f.lost[source] = err
	f.metrics.up.WithLabelValues(source).Set(0)
	f.log.Error("discovery can't follow the registry; the last known endpoints stay", "source", source, "error", err.Error())
}

func (f *follower) bad(source, registration string, err error) {
	f.metrics.bad.WithLabelValues(source).Inc()
	f.log.Warn("a registration is ignored", "source", source, "registration", registration, "error", err.Error())
}
