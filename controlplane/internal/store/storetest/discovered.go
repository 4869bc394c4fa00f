package storetest

import (
	"fmt"
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
	if e.Shared {
		testKeepersTakeTurns(t, a, b)
	}
}

// testKeepersTakeTurns has two keep and forget each other's services at the same time: they do not wait for each other
// in a circle.
func testKeepersTakeTurns(t *testing.T, a, b store.Store) {
	var all []store.Discovered
	var found [2][]store.Discovered
	var ids [2][]string
	for i := range 400 {
		d := store.Discovered{ServiceID: fmt.Sprintf("c%03d", i), Question: "q"}
		all, found[i%2], ids[i%2] = append(all, d), append(found[i%2], d), append(ids[i%2], d.ServiceID)
	}
	for range 10 {
		if err := a.KeepDiscovered(t.Context(), all, nil); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 2)
		go func() { done <- a.KeepDiscovered(t.Context(), found[0], ids[1]) }()
		go func() { done <- b.KeepDiscovered(t.Context(), found[1], ids[0]) }()
		for range 2 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
}
