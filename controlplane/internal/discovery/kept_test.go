package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/discovery"
	"gateway.internal/controlplane/internal/discovery/discoverytest"
	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// asking returns a service that asks etcd for something.
func asking(name, question string) *configv1.Service {
	s := inEtcd(name)
	s.Discovery.GetEtcd().Service = question
	return s
}

// asked waits until a source was told that a service asks for something, and returns that query.
func asked(g *discoverytest.Gateway, s *scripted, service, question string) (query discovery.Query) {
	id := g.Catalog.Current().Config.ByName(config.Service, service).ID()
	g.Eventually(fmt.Sprintf("the source is asked for %s", question), func() bool {
		query = s.query(id)
		return query.Discovery.GetEtcd().GetService() == question
	})
	return query
}

type services = []*configv1.Service

type answers = map[discovery.Query][]*configv1.Endpoint

// kept returns what the store keeps, as "service question hosts".
func kept(t *testing.T, g *discoverytest.Gateway) []string {
	t.Helper()
	known, err := g.Store.Discovered(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, d := range known {
		name := d.ServiceID
		if e := g.Catalog.Current().Config.ByID(config.Service, name); e != nil {
			name = e.Name()
		}
		line := name + ": " + d.Question
		for _, e := range d.Endpoints {
			line += " " + e.GetHost()
		}
		list = append(list, line)
	}
	slices.Sort(list)
	return list
}

func awaitKept(t *testing.T, g *discoverytest.Gateway, want ...string) {
	t.Helper()
	g.Eventually(fmt.Sprintf("the store keeps %q", want), func() bool { return slices.Equal(kept(t, g), want) })
}

// TestAnswersBelongToQuestions: an answer that comes late is no answer to what is asked now, and none to what is
// asked later either.
func TestAnswersBelongToQuestions(t *testing.T) {
	s := newScripted("etcd")
	g := discoverytest.Start(t, s)
	g.Put(asking("users", "a"))
	toA := asked(g, s, "users", "a")
	report := <-s.report
	report.Found(answers{toA: at("10.0.0.1")})
	g.Await("users", "10.0.0.1:80 0")
	awaitKept(t, g, "users: etcd a 10.0.0.1")

	g.Put(asking("users", "b"))
	toB := asked(g, s, "users", "b")
	report.Found(answers{toA: at("10.0.0.2")})
	g.Await("users", "10.0.0.1:80 0") // nobody has answered what is asked now
	report.Found(answers{toB: {}})
	if e := g.Endpoints("users"); e != nil {
		t.Errorf("the registry has nothing of what is asked for, and the service has %v", e)
	}
	awaitKept(t, g)

	// The same question in another query, such as of a service of which something else has changed.
	report.Found(answers{toB: at("10.0.0.3")})
	again := asking("users", "b")
	again.Labels = map[string]string{"x": "y"}
	g.Put(again)
	asked(g, s, "users", "b")
	report.Found(answers{toB: {}})
	g.Await("users", "10.0.0.3:80 0")
	awaitKept(t, g, "users: etcd b 10.0.0.3")

	allowed := asking("users", "b")
	allowed.Discovery.AllowEmpty = true
	g.Put(allowed)
	g.Eventually("the source is told", func() bool { return s.query(toB.ServiceID).Discovery.GetAllowEmpty() })
	report.Found(answers{s.query(toB.ServiceID): {}})
	g.Await("users")
	awaitKept(t, g, "users: etcd b")
	g.Put(&configv1.Service{Name: "users", Endpoints: at("h")})
	awaitKept(t, g)
}

// TestSkippedRevisions makes revisions while no control plane follows, and looks at what a new one makes of what was
// found before them.
func TestSkippedRevisions(t *testing.T) {
	for _, test := range []struct {
		name    string
		skipped services // nil: deletes the service
		answer  []*configv1.Endpoint
		want    []string // nil: nothing is left
	}{
		{name: "nothing", want: []string{"10.0.0.1:80 0"}},
		{
			name: "another question and back", skipped: services{asking("users", "b"), asking("users", "a")},
			want: []string{"10.0.0.1:80 0"},
		},
		{name: "another question", skipped: services{asking("users", "b")}},
		{
			name: "another question, answered", skipped: services{asking("users", "b")}, answer: at("10.0.0.2"),
			want: []string{"10.0.0.2:80 0"},
		},
		{name: "fixed endpoints", skipped: services{{Name: "users", Endpoints: at("h")}}},
		{name: "another service of that name", skipped: services{nil, asking("users", "a")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScripted("etcd")
			g := discoverytest.Start(t, s)
			g.Put(asking("users", "a"), asking("others", "c"))
			want := asked(g, s, "users", "a")
			(<-s.report).Found(answers{want: at("10.0.0.1"), asked(g, s, "others", "c"): at("10.0.0.9")})
			awaitKept(t, g, "others: etcd c 10.0.0.9", "users: etcd a 10.0.0.1")

			s = newScripted("etcd")
			g.Restart(s, func() {
				for _, m := range test.skipped {
					if m == nil {
						g.Delete("users")
						continue
					}
					g.Put(m)
				}
			})
			g.Await("others", "10.0.0.9:80 0")
			report := <-s.report
			if e := g.Catalog.Current().Config.ByName(config.Service, "users"); e.Message.(*configv1.Service).GetDiscovery() != nil {
				g.Eventually("the source is asked", func() bool { return s.query(e.ID()).ServiceName == "users" })
				report.Found(answers{s.query(e.ID()): test.answer})
			}
			if test.want == nil {
				g.Eventually("nothing is left", func() bool { return g.Endpoints("users") == nil })
				awaitKept(t, g, "others: etcd c 10.0.0.9")
				return
			}
			g.Await("users", test.want...)
		})
	}
}

// TestRestoredStore: a backup takes the place of the store while the control plane runs.
func TestRestoredStore(t *testing.T) {
	s := newScripted("etcd")
	g := discoverytest.Start(t, s)
	g.Put(asking("users", "a"), asking("orders", "b"))
	report := <-s.report
	report.Up()
	users, orders := asked(g, s, "users", "a"), asked(g, s, "orders", "b")
	report.Found(answers{users: at("10.0.0.1")})
	awaitKept(t, g, "users: etcd a 10.0.0.1")

	last, since := at("10.0.0.2"), time.Now().Add(-time.Hour).Truncate(time.Microsecond)
	found := []store.Discovered{
		{ServiceID: orders.ServiceID, Question: "etcd b", Endpoints: last, ChangedAt: since},
		{ServiceID: "gone", Question: "x", ChangedAt: since},
	}
	if err := g.Store.KeepDiscovered(t.Context(), found, []string{users.ServiceID}); err != nil {
		t.Fatal(err)
	}
	if err := g.Store.BeginEpoch(t.Context(), g.Catalog.Current().Epoch); err != nil {
		t.Fatal(err)
	}
	nothing := func(*catalog.Version) ([]config.Edit, error) { return nil, nil }
	_, err := g.Catalog.Commit(t.Context(), catalog.CommitRequest{Edits: nothing})
	if err != nil && !errors.Is(err, store.ErrEpochChanged) {
		t.Fatal(err)
	}
	g.Await("orders", "10.0.0.2:80 0")
	g.Await("users", "10.0.0.1:80 0")
	awaitKept(t, g, "orders: etcd b 10.0.0.2", "users: etcd a 10.0.0.1")
	if got := g.Catalog.Endpoints().ChangedAt[orders.ServiceID]; !got.Equal(since) {
		t.Errorf("they are of %v, want %v", got, since)
	}
	report.Found(answers{orders: {}})
	g.Await("orders", "10.0.0.2:80 0")
}

// TestNothingIsPublishedToo: what a service asked for before goes while a node does not look, and the control plane
// that said so is gone. The next one, which knows of no endpoints at all, tells what the registry says; not before it
// has.
func TestNothingIsPublishedToo(t *testing.T) {
	s := newScripted("etcd")
	g := discoverytest.Start(t, s)
	g.Put(asking("users", "a"))
	report := <-s.report
	report.Found(answers{asked(g, s, "users", "a"): at("10.0.0.1")})
	awaitKept(t, g, "users: etcd a 10.0.0.1")
	g.Put(asking("users", "b"))
	report.Found(answers{asked(g, s, "users", "b"): {}})
	awaitKept(t, g)

	s = newScripted("etcd")
	g.Restart(s)
	g.Put(asking("others", "c"))
	users, others := asked(g, s, "users", "b"), asked(g, s, "others", "c")
	report = <-s.report
	report.Found(answers{users: {}})
	if v := g.Catalog.Endpoints(); v.Version != 0 {
		t.Errorf("version %d is published before all is answered", v.Version)
	}
	report.Found(answers{others: {}})
	if v := g.Catalog.Endpoints(); v.Version == 0 || len(v.Services) > 0 {
		t.Errorf("version %d is published, of %d services", v.Version, len(v.Services))
	}
}

// hooked is a store that does something before it says what is kept.
type hooked struct {
	store.Store
	before func()
}

func (h *hooked) Discovered(ctx context.Context) ([]store.Discovered, error) {
	h.before()
	return h.Store.Discovered(ctx)
}

// TestKeptForNewServices: a control plane begins while another one finds endpoints of a service that is new. It takes
// them over, and does not have them forgotten as those of a service that it has not seen yet.
func TestKeptForNewServices(t *testing.T) {
	s := newScripted("etcd")
	g := discoverytest.Start(t, s)
	g.Put(asking("users", "a"))
	report := <-s.report

	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	other, also := catalog.New(g.Store, log), newScripted("etcd")
	if err := other.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := &hooked{g.Store, sync.OnceFunc(func() {
		g.Put(asking("orders", "b"))
		report.Found(answers{asked(g, s, "orders", "b"): at("10.0.0.2")})
		awaitKept(t, g, "orders: etcd b 10.0.0.2")
	})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = discovery.Run(ctx, other, h, []discovery.Source{also}, prometheus.NewRegistry(), log)
	}()
	defer func() { cancel(); <-ended }()
	g.Eventually("the other one asks too", func() bool { n, _ := also.followed(); return n > 0 })
	id := g.Catalog.Current().Config.ByName(config.Service, "orders").ID()
	if got := other.Endpoints().Services[id].GetEndpoints(); len(got) != 1 {
		t.Errorf("the other one has %v", got)
	}
	cancel() // what waits to be written is
	<-ended
	awaitKept(t, g, "orders: etcd b 10.0.0.2")
}
