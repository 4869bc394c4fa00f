// Package storetest is the suite that every engine of the store passes.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// Engine is one engine under test.
type Engine struct {
	// Open opens the same data each time it is called; the suite closes what it gets.
	Open func(t *testing.T) store.Store
	// Shared tells that several may be open at once.
	Shared bool
	// Stop and Start take the engine away and bring it back; nil where that can't be.
	Stop, Start func()
}

// Run runs the suite; engine is called for each test, with empty data.
func Run(t *testing.T, engine func(t *testing.T) Engine) {
	for name, test := range map[string]func(*testing.T, Engine){
		"a new store is empty": testEmpty, "every kind comes back": testRoundTrip, "names change places": testSwap,
		"plans": testPlans, "concurrent writers": testConcurrent, "history": testHistory, "watch": testWatch, "many resources": testMany,
		"outage": testOutage,
	} {
		t.Run(name, func(t *testing.T) { test(t, engine(t)) })
	}
}

// writer commits edits as a control plane does.
type writer struct {
	t     *testing.T
	store store.Store
	head  store.Head
	conf  *config.Config
}

func newWriter(t *testing.T, s store.Store) *writer {
	t.Helper()
	head, c, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &writer{t, s, head, c}
}

func (w *writer) commit(edits ...config.Edit) (store.Revision, error) {
	var next *config.Config
	r, err := w.store.Commit(w.t.Context(), w.head, func(newer []store.Revision) (*store.Draft, error) {
		for _, n := range newer {
			var err error
			if w.conf, err = w.conf.With(n.Changes); err != nil {
				return nil, err
			}
			if w.conf.Hash() != n.Hash {
				return nil, fmt.Errorf("revision %d leads to another hash", n.Number)
			}
			w.head.Number = n.Number
		}
		plan, err := w.conf.Plan(edits, config.PlanOptions{Now: time.Now(), NewID: uuid.NewString, AllowShrink: true})
		if err != nil {
			return nil, err
		}
		if len(plan.Changes) == 0 {
			return nil, nil //nolint:nilnil // nothing to commit
		}
		next = plan.Config
		return &store.Draft{Author: "ann", Message: "m", Hash: next.Hash(), Changes: plan.Changes}, nil
	})
	if err == nil && r.Number > 0 {
		w.head.Number, w.conf = r.Number, next
	}
	return r, err
}

func (w *writer) must(edits ...config.Edit) store.Revision {
	w.t.Helper()
	r, err := w.commit(edits...)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func put(m config.Message) config.Edit { return config.Edit{Kind: config.KindOfMessage(m), Put: m} }

func route(name string) config.Edit {
	return put(&configv1.Route{Name: name, Path: "/" + name, DirectResponse: &configv1.DirectResponse{Body: name}})
}

func open(t *testing.T, e Engine) store.Store {
	t.Helper()
	s := e.Open(t)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func testEmpty(t *testing.T, e Engine) {
	s := open(t, e)
	head, c, err := s.Load(t.Context())
	if err != nil || head.Number != 0 || head.Epoch == "" || c.Len(config.Route) != 0 {
		t.Errorf("got %v, %v", head, err)
	}
	if _, err := s.Revision(t.Context(), 1); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// everyKind is a configuration with resources of all kinds and references of all kinds.
func everyKind() []config.Edit {
	cfg, _ := structpb.NewStruct(map[string]any{"request": map[string]any{"set": map[string]any{"X-A": "ä \"1\""}}})
	w := uint32(3)
	size := int64(1 << 40)
	off := false
	return []config.Edit{
		put(&configv1.Policy{Name: "slow", Timeout: "5s", MaxTimeout: "10s", MaxRequestBytes: &size, Labels: map[string]string{"a": "b"}}),
		put(&configv1.Consumer{Name: "app", Groups: []string{"g1", "g2"}}),
		put(&configv1.Middleware{Name: "stamp", Type: "headers", Order: 7, Config: cfg}),
		put(&configv1.Pipeline{Name: "front", MiddlewareIds: []string{"stamp"}, TimeoutMs: 100, Global: true}),
		put(&configv1.Service{Name: "users", Endpoints: []*configv1.Endpoint{{Host: "127.0.0.1", Port: 9000, Weight: &w, Labels: map[string]string{"zone": "x"}}, {Host: "::1", Port: 1}}, PolicyId: "slow", PipelineId: "front", HealthCheckConfig: &configv1.HealthCheckConfig{Path: "/ok"}}),
		put(&configv1.Service{Name: "found", Discovery: &configv1.Discovery{Source: &configv1.Discovery_Etcd{Etcd: &configv1.EtcdDiscovery{Tags: []string{"v1"}}}}}),
		put(&configv1.Route{Name: "r1", Path: "/users/*", Methods: []string{"GET"}, Hosts: []string{"a.com"}, ServiceId: "users", PipelineId: "front", PolicyId: "slow", Enabled: &off, Priority: -3, Headers: []*configv1.HeaderMatch{{Name: "X-A", Match: &configv1.HeaderMatch_Exact{Exact: "1"}}}}),
		put(&configv1.Route{Name: "r2", Path: "/split", Backends: []*configv1.Backend{{ServiceId: "users", Weight: &w}, {ServiceId: "found"}}}),
	}
}

func testRoundTrip(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	w.must(everyKind()...)
	w.must(config.Edit{Kind: config.Route, Delete: "r2"}, put(&configv1.Service{Name: "users", Endpoints: []*configv1.Endpoint{{Host: "h", Port: 2}}}))
	head, c, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if head != w.head || c.Hash() != w.conf.Hash() {
		t.Errorf("head %v, want %v; same hash: %v", head, w.head, c.Hash() == w.conf.Hash())
	}
	for _, k := range config.Kinds() {
		if d := cmp.Diff(messages(w.conf, k), messages(c, k), protocmp.Transform()); d != "" {
			t.Errorf("%s (-written +read)\n%s", k.Plural(), d)
		}
	}
	all, err := s.Since(t.Context(), store.Head{Epoch: head.Epoch}, 10)
	if err != nil || len(all) != 2 {
		t.Fatalf("%d revisions, %v", len(all), err)
	}
	replayed := config.Empty()
	for _, r := range all {
		if replayed, err = replayed.With(r.Changes); err != nil || replayed.Hash() != r.Hash {
			t.Fatalf("revision %d replayed: %v", r.Number, err)
		}
	}
	if _, err := s.Since(t.Context(), store.Head{Epoch: "another", Number: 1}, 10); !errors.Is(err, store.ErrEpochChanged) {
		t.Errorf("another epoch: %v", err)
	}
	if _, err := s.Since(t.Context(), store.Head{Epoch: head.Epoch, Number: 99}, 10); !errors.Is(err, store.ErrEpochChanged) {
		t.Errorf("a head that is not there: %v", err)
	}
}

func messages(c *config.Config, k config.Kind) []config.Message {
	var list []config.Message
	for _, e := range c.Sorted(k) {
		list = append(list, e.Message)
	}
	return list
}

func testSwap(t *testing.T, e Engine) {
	w := newWriter(t, open(t, e))
	w.must(route("a"), route("b"))
	a, b := w.conf.ByName(config.Route, "a").ID(), w.conf.ByName(config.Route, "b").ID()
	w.must(put(&configv1.Route{Id: a, Name: "b", Path: "/x", DirectResponse: &configv1.DirectResponse{}}), put(&configv1.Route{Id: b, Name: "a", Path: "/y", DirectResponse: &configv1.DirectResponse{}}))
	if w.conf.ByName(config.Route, "a").ID() != b {
		t.Error("the names did not change places")
	}
}

func testPlans(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	w.must(route("a"))
	if r := w.must(route("a")); r.Number != 0 {
		t.Errorf("nothing was committed as revision %d", r.Number)
	}
	boom := errors.New("boom")
	if _, err := s.Commit(t.Context(), w.head, func([]store.Revision) (*store.Draft, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if r := w.must(route("b")); r.Number != 2 {
		t.Errorf("the next revision is %d", r.Number)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx, w.head, func([]store.Revision) (*store.Draft, error) { return &store.Draft{}, nil }); err == nil {
		t.Error("committed after the caller had gone")
	}
}

func testConcurrent(t *testing.T, e Engine) {
	stores := []store.Store{open(t, e)}
	if e.Shared {
		stores = append(stores, open(t, e))
	}
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for i := range writers {
		w := newWriter(t, stores[i%len(stores)])
		wg.Go(func() {
			for j := range each {
				if _, err := w.commit(route(fmt.Sprintf("w%d-%d", i, j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	head, c, err := stores[0].Load(t.Context())
	if err != nil || head.Number != writers*each || c.Len(config.Route) != writers*each {
		t.Errorf("head %d with %d routes, %v; want %d", head.Number, c.Len(config.Route), err, writers*each)
	}
	all, err := stores[0].Since(t.Context(), store.Head{Epoch: head.Epoch}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range all {
		if r.Number != uint32(i+1) {
			t.Fatalf("revision %d stands at place %d", r.Number, i+1)
		}
	}
}

func testHistory(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	for i := range 5 {
		w.must(route(fmt.Sprint("r", i)))
	}
	list, total, err := s.Revisions(t.Context(), store.List{Offset: 1, Limit: 2})
	if err != nil || total != 5 || len(list) != 2 || list[0].Number != 4 || list[0].ChangeCount != 1 || list[0].Author != "ann" {
		t.Errorf("got %v of %d, %v", list, total, err)
	}
	if _, total, _ := s.Revisions(t.Context(), store.List{Author: "bob", Limit: 2}); total != 0 {
		t.Errorf("bob has %d revisions", total)
	}
	r, err := s.Revision(t.Context(), 3)
	if err != nil || len(r.Changes) != 1 || r.Changes[0].Name() != "r2" || r.Message != "m" {
		t.Errorf("got %v, %v", r, err)
	}
}

func testWatch(t *testing.T, e Engine) {
	reader := open(t, e)
	writing := reader
	if e.Shared {
		writing = open(t, e)
	}
	w := newWriter(t, writing)
	ctx, cancel := context.WithCancel(t.Context())
	hints := reader.Watch(ctx)
	r := w.must(route("a"))
	timeout := time.After(4 * time.Second) // below the poll's interval
	for {
		select {
		case <-hints:
			if all, err := reader.Since(t.Context(), store.Head{Epoch: w.head.Epoch}, 10); err == nil && len(all) == int(r.Number) {
				cancel()
				for range hints { //nolint:revive // until it is closed
				}
				return
			}
		case <-timeout:
			t.Fatal("no hint")
		}
	}
}

func testMany(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	var edits []config.Edit
	for i := range 3000 {
		edits = append(edits, route(fmt.Sprint("r", i)))
	}
	w.must(edits...)
	_, c, err := s.Load(t.Context())
	if err != nil || c.Hash() != w.conf.Hash() {
		t.Errorf("read something else: %v", err)
	}
}

func testOutage(t *testing.T, e Engine) {
	if e.Stop == nil {
		t.Log("this engine can't go away")
		return
	}
	s := open(t, e)
	w := newWriter(t, s)
	w.must(route("a"))
	e.Stop()
	if _, err := w.commit(route("b")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("while it is away: %v", err)
	}
	if _, _, err := s.Load(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("while it is away: %v", err)
	}
	e.Start()
	w.must(route("b"))
}
