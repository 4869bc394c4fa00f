package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// memory is a store of one revision, and of what is kept of discovery.
type memory struct {
	store.Store
	services []*configv1.Service

	mu      sync.Mutex
	known   map[string]store.Discovered
	refuses map[string]bool // ids of services that it does not take
	away    error
}

func (m *memory) Load(context.Context) (store.Head, *config.Config, error) {
	var changes []config.Change
	for _, s := range m.services {
		e, err := config.NewEntry(s)
		if err != nil {
			return store.Head{}, nil, err
		}
		changes = append(changes, config.Change{Kind: config.Service, After: e})
	}
	c, err := config.Empty().With(changes)
	return store.Head{Epoch: "e"}, c, err
}

func (m *memory) Since(context.Context, store.Head, int) ([]store.Revision, error) { return nil, nil }

func (m *memory) History(context.Context) (store.History, error) {
	return store.History{Oldest: 1}, nil
}

func (m *memory) Watch(context.Context) <-chan struct{} { return nil }

func (m *memory) Err() error { return nil }

func (m *memory) Discovered(context.Context) ([]store.Discovered, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.known)), m.away
}

func (m *memory) KeepDiscovered(_ context.Context, found []store.Discovered, gone []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away != nil {
		return m.away
	}
	for _, d := range found {
		if m.refuses[d.ServiceID] {
			return errors.New("no such text")
		}
	}
	for _, d := range found {
		m.known[d.ServiceID] = d
	}
	for _, id := range gone {
		delete(m.known, id)
	}
	return nil
}

func (m *memory) ids() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.known))
}

// TestOneThatIsNotTaken: a service that the store does not take is no reason not to keep the others.
func TestOneThatIsNotTaken(t *testing.T) {
	unsaved := prometheus.NewGauge(prometheus.GaugeOpts{Name: "x"})
	m := &memory{known: map[string]store.Discovered{"s03": {}}, refuses: map[string]bool{"s07": true},
		away: store.ErrUnavailable}
	var said strings.Builder
	k := newKeeper(m, unsaved, slog.New(slog.NewTextHandler(&said, nil)))
	check := func(what string, waiting float64, kept ...string) {
		t.Helper()
		if got := testutil.ToFloat64(unsaved); got != waiting {
			t.Errorf("%s: %v wait to be written, want %v", what, got, waiting)
		}
		if d := cmp.Diff(kept, m.ids()); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	var all []string
	for i := range 20 {
		id := fmt.Sprintf("s%02d", i)
		if i == 3 {
			k.forget(id)
			continue
		}
		k.keep(store.Discovered{ServiceID: id})
		if !m.refuses[id] {
			all = append(all, id)
		}
	}
	if err := k.write(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the store is away: %v", err)
	}
	check("the store is away", 20, "s03")
	m.away = nil
	for range 2 {
		if err := k.write(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("one is not taken", 1, all...)
	}
	if n := strings.Count(said.String(), "service_id=s07"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, said.String())
	}
	k.forget("s07")
	if err := k.write(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("it is gone", 0, all...)
}

// TestStepsAreBounded: no statement is larger than it has to be.
func TestStepsAreBounded(t *testing.T) {
	set := func(bytes int) *store.Discovered {
		e := &configv1.Endpoint{Host: strings.Repeat("h", bytes)}
		return &store.Discovered{Endpoints: []*configv1.Endpoint{e}}
	}
	all := map[string]*store.Discovered{"a": set(3 << 20), "b": set(3 << 20), "c": set(3 << 20), "d": nil, "e": set(20 << 20)}
	for i := range 2 * keepBatch {
		all[fmt.Sprintf("f%04d", i)] = set(1)
	}
	var got []int
	var order []string
	for _, step := range batches(all) {
		got, order = append(got, len(step)), append(order, step...)
	}
	if d := cmp.Diff([]int{2, 2, 1, keepBatch, keepBatch}, got); d != "" || !slices.IsSorted(order) || len(order) != len(all) {
		t.Errorf("steps of %v; in order: %t", got, slices.IsSorted(order))
	}
}
