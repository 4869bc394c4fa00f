package discovery

import (
	"context"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/controlplane/internal/catalog"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// Run keeps the catalog's endpoints of all services that ask for discovery as the sources find them, until ctx ends and everything it
// started has ended. Metrics are registered with registry.
func Run(ctx context.Context, c *catalog.Catalog, sources []Source, registry prometheus.Registerer, log *slog.Logger) error {
	f := &follower{catalog: c, log: log, metrics: newMetrics(registry), sources: sources, wanted: map[string]asked{}, lost: map[string]error{}, unknown: map[string]bool{}}
	var running sync.WaitGroup
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

// follower brings together what services want and what sources find.
type follower struct {
	catalog *catalog.Catalog
	log     *slog.Logger
	metrics *metrics
	sources []Source

	mu      sync.Mutex       // of all below, and held while the catalog's endpoints are changed
	wanted  map[string]asked // by service id
	lost    map[string]error // by source: it is away, and why; absent: it was not heard of yet
	unknown map[string]bool  // ids of services whose source this control plane does not have; told once
}

// asked is a want with what became of it.
type asked struct {
	Want
	source string
	// kept: the registry has no endpoint any more, and the last known ones stay.
	kept bool
}

// followCatalog tells the sources what the newest configuration wants, until ctx ends.
func (f *follower) followCatalog(ctx context.Context) {
	var seen *catalog.Version
	for {
		changed := f.catalog.Changed()
		if v := f.catalog.Current(); v != nil && v != seen {
			f.follow(v.Config)
			seen = v
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (f *follower) follow(c *config.Config) {
	bySource := map[string]map[string]Want{}
	for e := range c.All(config.Service) {
		s, ok := e.Message.(*configv1.Service)
		if !ok || s.GetDiscovery() == nil {
			continue
		}
		name := sourceOf(s.GetDiscovery())
		if bySource[name] == nil {
			bySource[name] = map[string]Want{}
		}
		bySource[name][s.GetId()] = Want{ServiceID: s.GetId(), ServiceName: s.GetName(), Discovery: s.GetDiscovery()}
	}
	changed := f.want(bySource)
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

// want takes over what is wanted from now on, forgets what nobody wants, and returns the names of the sources for which anything
// changed.
func (f *follower) want(bySource map[string]map[string]Want) map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := map[string]bool{}
	renamed := map[string]asked{}
	for id, old := range f.wanted {
		now, still := bySource[old.source][id]
		if still && now.ServiceName == old.ServiceName {
			continue
		}
		f.metrics.endpoints.DeleteLabelValues(old.source, old.ServiceName)
		if still {
			renamed[id] = asked{Want: now, source: old.source}
			continue
		}
		changed[old.source] = true
		f.setKept(old, false)
		delete(f.wanted, id)
		delete(f.unknown, id)
	}
	for id, now := range renamed { // after all old names are gone, of which some may be new ones too
		f.count(now.source, now.ServiceName, id)
	}
	for source, wants := range bySource {
		has := f.has(source)
		for id, w := range wants {
			old, known := f.wanted[id]
			if known && old.Want == w {
				continue
			}
			changed[source] = true
			f.wanted[id] = asked{Want: w, source: source, kept: old.kept}
			if !has && !f.unknown[id] {
				f.unknown[id] = true
				f.log.Warn("a service asks for a discovery source that this control plane does not have", "service", w.ServiceName, "source", source)
			}
		}
	}
	var gone []string
	for id := range f.catalog.Endpoints().Services {
		if _, wanted := f.wanted[id]; !wanted {
			gone = append(gone, id)
		}
	}
	if len(gone) > 0 {
		f.catalog.ChangeEndpoints(nil, gone)
	}
	return changed
}

func (f *follower) has(source string) bool {
	for _, s := range f.sources {
		if s.Name() == source {
			return true
		}
	}
	return false
}

func (f *follower) found(source string, sets map[string][]*configv1.Endpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.catalog.Endpoints().Services
	changes := make(map[string][]*configv1.Endpoint, len(sets))
	for id, endpoints := range sets {
		a, wanted := f.wanted[id]
		if !wanted || a.source != source {
			continue // it was found for a configuration that is gone
		}
		if len(endpoints) == 0 && !a.Discovery.GetAllowEmpty() {
			// Nothing is published, so that nodes with endpoints from before this process started keep them as well.
			if n := len(known[id].GetEndpoints()); n > 0 && !a.kept {
				f.log.Warn("the registry has no endpoint of a service any more; the last known ones stay", "service", a.ServiceName, "source", source, "endpoints", n)
				f.setKept(a, true)
			}
			continue
		}
		f.setKept(a, false)
		changes[id] = unique(endpoints)
	}
	f.catalog.ChangeEndpoints(changes, nil)
	for id := range changes {
		f.count(source, f.wanted[id].ServiceName, id)
	}
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
func (f *follower) setKept(a asked, kept bool) {
	if a.kept == kept {
		return
	}
	a.kept = kept
	f.wanted[a.ServiceID] = a
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
