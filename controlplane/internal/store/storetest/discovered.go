package storetest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// testDiscovered keeps what discovery finds. One that is open at the same time sees it, and so does who opens the
// data later.
func testDiscovered(t *testing.T, e Engine) {
	a := open(t, e)
	b := a
	if e.Shared {
		b = open(t, e)
	}
	first := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	later := first.Add(time.Hour)
	found := func(id, question string, at time.Time, hosts ...string) store.Discovered {
		d := store.Discovered{ServiceID: id, Question: question, ChangedAt: at}
		for _, h := range hosts {
			labels := map[string]string{"zone": "a", "rack": "b"}
			d.Endpoints = append(d.Endpoints, &configv1.Endpoint{Host: h, Port: 80, Weight: proto.Uint32(3), Labels: labels})
		}
		return d
	}
	keep := func(s store.Store, gone []string, list ...store.Discovered) {
		t.Helper()
		if err := s.KeepDiscovered(t.Context(), list, gone); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, want ...store.Discovered) {
		t.Helper()
		got, err := b.Discovered(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	check("at first")
	users := []string{"10.0.0.2", "10.0.0.3"}
	keep(a, nil, found("s2", "etcd users", first, users...), found("s1", "etcd orders", first), found("s3", "x", first, "h"))
	check("found", found("s1", "etcd orders", first), found("s2", "etcd users", first, users...), found("s3", "x", first, "h"))
	orders := found("s1", "etcd orders", later, "10.0.0.9")
	keep(b, []string{"s3", "unknown"}, found("s2", "etcd users", later, users...), orders)
	check("the same again is as old as it was", orders, found("s2", "etcd users", first, users...))
	keep(a, nil, found("s2", "etcd people", later, users...))
	check("another question", orders, found("s2", "etcd people", later, users...))
	keep(a, []string{"s1"})
	keep(a, nil)
	check("gone", found("s2", "etcd people", later, users...))

	many := make([]string, 5000) // more than there are parameters or fields in a statement
	for i := range many {
		many[i] = strings.Repeat("m", i%7) + ".example"
	}
	keep(a, nil, found("s2", "etcd people", later, many...))
	check("many", found("s2", "etcd people", later, many...))
}
