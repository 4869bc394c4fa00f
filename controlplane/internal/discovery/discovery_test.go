package discovery_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"gateway.internal/controlplane/internal/discovery"
	"gateway.internal/controlplane/internal/discovery/discoverytest"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted is a source that says what a test tells it to.
type scripted struct {
	name   string
	report chan *discovery.Report // gets the report when Run starts

	mu      sync.Mutex
	queries []map[string]discovery.Query
}

func newScripted(name string) *scripted {
	return &scripted{name: name, report: make(chan *discovery.Report, 1)}
}

func (s *scripted) Name() string { return s.name }

func (s *scripted) Question(q discovery.Query) string { return q.Discovery.GetEtcd().GetService() }

func (s *scripted) Follow(queries map[string]discovery.Query) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries = append(s.queries, queries)
}

func (s *scripted) Run(ctx context.Context, to *discovery.Report) {
	s.report <- to
	<-ctx.Done()
}

// followed returns how often Follow was called and what it was told last.
func (s *scripted) followed() (times int, last map[string]discovery.Query) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queries) == 0 {
		return 0, nil
	}
	return len(s.queries), s.queries[len(s.queries)-1]
}

// query returns what a service asks for, as it was told last.
func (s *scripted) query(id string) discovery.Query {
	_, last := s.followed()
	return last[id]
}

func inEtcd(name string) *configv1.Service {
	return &configv1.Service{Name: name, Discovery: &configv1.Discovery{Source: &configv1.Discovery_Etcd{Etcd: &configv1.EtcdDiscovery{}}}}
}

func at(host string) []*configv1.Endpoint { return []*configv1.Endpoint{{Host: host, Port: 80}} }

func TestSourcesAreToldOfWhatConcernsThem(t *testing.T) {
	s := newScripted("etcd")
	g := discoverytest.Start(t, s)
	g.Put(inEtcd("users"), &configv1.Service{Name: "fixed", Endpoints: at("h")})
	g.Eventually("the source is asked", func() bool { n, _ := s.followed(); return n == 1 })
	_, queries := s.followed()
	id := g.Catalog.Current().Config.ByName(config.Service, "users").ID()
	if q := queries[id]; len(queries) != 1 || q.ServiceName != "users" || q.ServiceID != id {
		t.Errorf("it is asked for %v", queries)
	}
	g.Put(&configv1.Service{Name: "fixed", Endpoints: at("i")})
	g.Put(inEtcd("orders"))
	g.Eventually("the source is asked again", func() bool { n, _ := s.followed(); return n == 2 })
	if _, queries := s.followed(); len(queries) != 2 {
		t.Errorf("it is asked for %v", queries)
	}
}

// TestSeriesOutliveNames makes changes of names: there is one series for each service that has endpoints, and no other.
func TestSeriesOutliveNames(t *testing.T) {
	s := newScripted("etcd")
	g := discoverytest.Start(t, s)
	var report *discovery.Report
	for _, step := range configtest.Names(inEtcd) {
		g.Commit(step.Edits(g.Catalog.Current().Config))
		c := g.Catalog.Current().Config
		g.Eventually("the source follows: "+step.What, func() bool {
			_, queries := s.followed()
			for _, q := range queries {
				if e := c.ByID(config.Service, q.ServiceID); e == nil || e.Name() != q.ServiceName {
					return false
				}
			}
			return len(queries) == len(step.Names)
		})
		if report == nil {
			report = <-s.report
		}
		answers := map[discovery.Query][]*configv1.Endpoint{}
		for _, e := range c.Sorted(config.Service) {
			if g.Catalog.Endpoints().Services[e.ID()] == nil { // what is known is not said again
				answers[s.query(e.ID())] = at("10.0.0.1")
			}
		}
		report.Found(answers)
		if got := g.Series("gateway_discovery_endpoints", "service"); !slices.Equal(got, step.Names) {
			t.Errorf("%s: there are series for %q, want %q", step.What, got, step.Names)
		}
	}
}

func TestAnswersNobodyWaitsForAreDropped(t *testing.T) {
	s := newScripted("etcd")
	g := discoverytest.Start(t, s)
	g.Put(inEtcd("users"))
	g.Eventually("the source is asked", func() bool { n, _ := s.followed(); return n == 1 })
	report := <-s.report
	id := g.Catalog.Current().Config.ByName(config.Service, "users").ID()
	want := s.query(id)
	report.Found(map[discovery.Query][]*configv1.Endpoint{want: at("10.0.0.1"), {ServiceID: "gone"}: at("10.0.0.2")})
	if got := g.Catalog.Endpoints().Services; len(got) != 1 || got[id] == nil {
		t.Errorf("published are %v", got)
	}
	g.Delete("users")
	g.Eventually("it is forgotten", func() bool { return len(g.Catalog.Endpoints().Services) == 0 })
	report.Found(map[discovery.Query][]*configv1.Endpoint{want: at("10.0.0.3")})
	if got := g.Catalog.Endpoints().Services; len(got) != 0 {
		t.Errorf("a late answer for a service that is gone is published: %v", got)
	}
}

// A service that has never had an endpoint keeps none: nothing is published, so that nodes keep what they may have.
func TestEmptyAnswers(t *testing.T) {
	s := newScripted("etcd")
	g := discoverytest.Start(t, s)
	empty := inEtcd("users")
	empty.Discovery.AllowEmpty = true
	g.Put(empty, inEtcd("orders"))
	g.Eventually("the source is asked", func() bool { n, _ := s.followed(); return n == 1 })
	users, orders := g.Catalog.Current().Config.ByName(config.Service, "users").ID(), g.Catalog.Current().Config.ByName(config.Service, "orders").ID()
	(<-s.report).Found(map[discovery.Query][]*configv1.Endpoint{s.query(users): {}, s.query(orders): {}})
	got := g.Catalog.Endpoints().Services
	if set := got[users]; set == nil || len(set.GetEndpoints()) != 0 || got[orders] != nil {
		t.Errorf("published are %v", got)
	}
	if kept := g.Metric("gateway_discovery_kept_services"); kept != 0 {
		t.Errorf("%v services keep endpoints that they never had", kept)
	}
}

func TestAServiceWithoutItsSource(t *testing.T) {
	s := newScripted("another")
	g := discoverytest.Start(t, s)
	g.Put(inEtcd("users"))
	report := <-s.report
	report.Up()
	report.Down(errors.New("away"))
	report.Down(errors.New("still away"))
	report.Up()
	g.AwaitMetric("gateway_discovery_up", 1)
	id := g.Catalog.Current().Config.ByName(config.Service, "users").ID()
	want := discovery.Query{ServiceID: id, ServiceName: "users", Discovery: inEtcd("").GetDiscovery()}
	report.Found(map[discovery.Query][]*configv1.Endpoint{want: at("10.0.0.1")})
	if n, _ := s.followed(); n != 0 || len(g.Catalog.Endpoints().Services) != 0 {
		t.Error("a source answers for another")
	}
}
