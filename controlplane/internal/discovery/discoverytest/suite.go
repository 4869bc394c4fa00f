// Package discoverytest has the suite that every discovery source passes, against a real registry.
package discoverytest

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/discovery"
	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/internal/store/sql"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// Instance is one registration that the suite makes.
type Instance struct {
	// ID tells instances apart; Service is the name that it is registered under.
	ID, Service string
	Tags        []string
	Address     string
	Port        int
	Meta        map[string]string
	// Weight 0 leaves it out of the registration.
	Weight int
}

// Registry is a real registry of one test: what the suite does to it. Its methods fail the test themselves.
type Registry interface {
	// Source returns a new source that follows this registry.
	Source() discovery.Source
	// Discovery asks for registrations of a service that carry all tags.
	Discovery(service string, tags ...string) *configv1.Discovery
	// Register writes a registration, also over one with its ID, and Deregister removes it.
	Register(Instance)
	Deregister(id string)
	// RegisterBad writes a registration that can't be understood.
	RegisterBad(id string)
	// RegisterLeased writes a registration that ends when its owner is gone; lose makes it so.
	RegisterLeased(Instance) (lose func())
	// Wipe removes every registration at once.
	Wipe()
	// Compact makes the registry forget its history.
	Compact()
	// Kill ends the registry with SIGKILL, Restart brings it back with what it had, Replace brings up a new and empty one.
	Kill()
	Restart()
	Replace()
}

// Run runs the suite. open starts an empty registry for one test.
func Run(t *testing.T, open func(t *testing.T) Registry) {
	t.Run("follows registrations", func(t *testing.T) { follows(t, open(t)) })
	t.Run("follows within a second", func(t *testing.T) { isFast(t, open(t)) })
	t.Run("finds what was there before", func(t *testing.T) { findsBefore(t, open(t)) })
	t.Run("selects by name and tags", func(t *testing.T) { selects(t, open(t)) })
	t.Run("follows the configuration while the registry is away", func(t *testing.T) { followsConfiguration(t, open(t)) })
	t.Run("lets leases end", func(t *testing.T) { leases(t, open(t)) })
	t.Run("keeps the last known endpoints of an empty registry", func(t *testing.T) { keepsLastKnown(t, open(t)) })
	t.Run("keeps them over restarts, beside services that have some", func(t *testing.T) { keepsOverRestarts(t, open(t)) })
	t.Run("drops what was asked for before", func(t *testing.T) { dropsFormer(t, open(t)) })
	t.Run("may become empty when allowed", func(t *testing.T) { allowsEmpty(t, open(t)) })
	t.Run("ignores bad registrations only", func(t *testing.T) { ignoresBad(t, open(t)) })
	t.Run("counts an address once", func(t *testing.T) { countsOnce(t, open(t)) })
	t.Run("outlives a killed registry", func(t *testing.T) { outlivesKill(t, open(t)) })
	t.Run("starts before the registry", func(t *testing.T) { startsBefore(t, open(t)) })
	t.Run("follows a replaced registry", func(t *testing.T) { followsReplaced(t, open(t)) })
	t.Run("goes on after compaction", func(t *testing.T) { outlivesCompaction(t, open(t)) })
}

// Gateway is discovery at work: a catalog on an embedded store, followed by a source.
type Gateway struct {
	t        testing.TB
	path     string // of the store
	stop     func() // ends the process that runs
	Catalog  *catalog.Catalog
	Store    store.Store
	Registry *prometheus.Registry
}

// Start runs discovery until the test ends. The adapter's TestMain checks with goleak that nothing goes on after that.
func Start(t testing.TB, source discovery.Source) *Gateway {
	t.Helper()
	g := &Gateway{t: t, path: filepath.Join(t.TempDir(), "gateway.db")}
	g.start(source)
	t.Cleanup(func() { g.stop() })
	return g
}

// Restart ends the control plane and starts another one on its store, with a source that knows nothing yet. What
// happens in between are revisions that neither has followed.
func (g *Gateway) Restart(source discovery.Source, between ...func()) {
	g.t.Helper()
	for _, change := range between {
		g.stop()
		g.open(func(context.Context, *slog.Logger) {})
		change()
	}
	g.stop()
	g.start(source)
}

func (g *Gateway) start(source discovery.Source) {
	g.t.Helper()
	g.open(func(ctx context.Context, log *slog.Logger) {
		if err := discovery.Run(ctx, g.Catalog, g.Store, []discovery.Source{source}, g.Registry, log); err != nil {
			g.t.Error(err)
		}
	})
}

// open loads the catalog and runs what follows it.
func (g *Gateway) open(follow func(ctx context.Context, log *slog.Logger)) {
	g.t.Helper()
	log := slog.New(slog.NewTextHandler(g.t.Output(), nil))
	s, err := sql.Open(g.t.Context(), "embedded:"+g.path, log)
	if err != nil {
		g.t.Fatal(err)
	}
	g.Catalog, g.Store, g.Registry = catalog.New(s, log), s, prometheus.NewRegistry()
	ctx, cancel := context.WithCancel(context.Background())
	loaded := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(loaded)
		_ = g.Catalog.Run(ctx)
	}()
	go func() {
		defer close(ended)
		follow(ctx, log)
	}()
	g.stop = sync.OnceFunc(func() {
		cancel()
		<-loaded
		<-ended
		_ = s.Close()
	})
	g.Eventually("the catalog is loaded", func() bool { return g.Catalog.Current() != nil })
}

// Eventually waits for something that the catalog can tell.
func (g *Gateway) Eventually(what string, is func() bool) {
	g.t.Helper()
	waittest.Until(g.t, what, is)
}

// Put creates or replaces services, as one revision.
func (g *Gateway) Put(services ...*configv1.Service) {
	g.t.Helper()
	edits := make([]config.Edit, len(services))
	for i, s := range services {
		edits[i] = config.Edit{Kind: config.Service, Put: s}
	}
	g.Commit(edits)
}

// Delete removes a service.
func (g *Gateway) Delete(name string) {
	g.t.Helper()
	g.Commit([]config.Edit{{Kind: config.Service, Delete: name}})
}

// Commit makes a revision of edits.
func (g *Gateway) Commit(edits []config.Edit) {
	g.t.Helper()
	_, err := g.Catalog.Commit(g.t.Context(), catalog.CommitRequest{
		Author: "suite", AllowShrink: true, Edits: func(*catalog.Version) ([]config.Edit, error) { return edits, nil },
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

// Endpoints returns the published endpoints of a service as "host:port weight", sorted; nil when none were ever
// published.
func (g *Gateway) Endpoints(service string) []string {
	e := g.Catalog.Current().Config.ByName(config.Service, service)
	if e == nil {
		return nil
	}
	set, ok := g.Catalog.Endpoints().Services[e.ID()]
	if !ok {
		return nil
	}
	out := []string{}
	for _, e := range set.GetEndpoints() {
		out = append(out, fmt.Sprintf("%s %d", config.EndpointKey(e), e.GetWeight()))
	}
	slices.Sort(out)
	return out
}

// Await waits until a service has exactly these endpoints.
func (g *Gateway) Await(service string, want ...string) {
	g.t.Helper()
	slices.Sort(want)
	if want == nil {
		want = []string{}
	}
	var got []string
	g.Eventually(fmt.Sprintf("%s has %v", service, want), func() bool {
		got = g.Endpoints(service)
		return cmp.Equal(got, want)
	})
}

// Metric returns the sum of a metric over its labels.
func (g *Gateway) Metric(name string) float64 {
	g.t.Helper()
	families, err := g.Registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// Series returns the values of one label of a metric, sorted.
func (g *Gateway) Series(name, label string) []string {
	g.t.Helper()
	families, err := g.Registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	var values []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == label {
					values = append(values, l.GetValue())
				}
			}
		}
	}
	slices.Sort(values)
	return values
}

// AwaitMetric waits until a metric has a value.
func (g *Gateway) AwaitMetric(name string, want float64) {
	g.t.Helper()
	g.Eventually(fmt.Sprintf("%s is %v", name, want), func() bool { return g.Metric(name) == want })
}

func service(name string, d *configv1.Discovery) *configv1.Service {
	return &configv1.Service{Name: name, Discovery: d}
}

func instance(id, service, address string) Instance {
	return Instance{ID: id, Service: service, Address: address, Port: 80}
}
