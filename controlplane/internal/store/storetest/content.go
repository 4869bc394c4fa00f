package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// What is written comes back.

func testEmpty(t *testing.T, e Engine) {
	s := open(t, e)
	head, c, err := s.Load(t.Context())
	if err != nil || head.Number != 0 || head.Epoch == "" || c.Len(config.Route) != 0 {
		t.Errorf("got %v, %v", head, err)
	}
	_, err = s.Revision(t.Context(), 1)
	if e, ok := errors.AsType[*store.NotFoundError](err); !ok || e.Number != 1 || !errors.Is(err, store.ErrNotFound) {
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

// testMany commits and loads what the largest installations have.
func testMany(t *testing.T, e Engine) {
	const services, routes = manyServices, manyRoutes
	s := open(t, e)
	w := newWriter(t, s)
	edits := make([]config.Edit, 0, services+routes)
	for i := range services {
		edits = append(edits, put(&configv1.Service{Name: fmt.Sprint("s", i), Endpoints: []*configv1.Endpoint{{Host: "10.0.0.1", Port: 80}, {Host: "10.0.0.2", Port: 80}}}))
	}
	for i := range routes {
		edits = append(edits, put(&configv1.Route{Name: fmt.Sprint("r", i), Path: fmt.Sprintf("/a/%d/*", i), Methods: []string{"GET"}, ServiceId: fmt.Sprint("s", i%services)}))
	}
	plan := w.plan(edits...)
	timed := func(what string, do func()) {
		at := time.Now()
		do()
		t.Logf("%s: %v", what, time.Since(at).Round(10*time.Microsecond))
	}
	timed("commit everything", func() { w.commitPlan(plan) })
	timed("load everything", func() {
		head, c, err := s.Load(t.Context())
		if err != nil || head != w.head || c.Hash() != w.conf.Hash() {
			t.Errorf("read something else: head %v, %v", head, err)
		}
	})
	timed("read its revision", func() {
		r, err := s.Revision(t.Context(), w.head.Number)
		if err != nil || len(r.Changes) != services+routes {
			t.Errorf("%d changes, %v", len(r.Changes), err)
		}
	})
	plan = w.plan(route("one-more"))
	timed("commit one more", func() { w.commitPlan(plan) })
	edits = edits[:0]
	for e := range w.conf.All(config.Route) {
		edits = append(edits, config.Edit{Kind: config.Route, Delete: e.ID()})
	}
	plan = w.plan(edits...)
	timed("remove all routes", func() { w.commitPlan(plan) })
	if _, c, err := s.Load(t.Context()); err != nil || c.Hash() != w.conf.Hash() {
		t.Errorf("read something else: %v", err)
	}
}
