package discoverytest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

func follows(t *testing.T, r Registry) {
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("")))
	r.Register(Instance{ID: "a", Service: "users", Address: "10.0.0.1", Port: 9000, Weight: 3, Meta: map[string]string{"zone": "a"}})
	g.Await("users", "10.0.0.1:9000 3")
	id := g.Catalog.Current().Config.ByName(config.Service, "users").ID()
	if zone := g.Catalog.Endpoints().Services[id].GetEndpoints()[0].GetLabels()["zone"]; zone != "a" {
		t.Errorf("the label zone is %q", zone)
	}
	g.AwaitMetric("gateway_discovery_up", 1)
	r.Register(Instance{ID: "b", Service: "users", Address: "fd00::1", Port: 9000})
	g.Await("users", "10.0.0.1:9000 3", "[fd00::1]:9000 1")
	g.AwaitMetric("gateway_discovery_endpoints", 2)
	r.Register(Instance{ID: "a", Service: "users", Address: "10.0.0.9", Port: 9000})
	g.Await("users", "10.0.0.9:9000 1", "[fd00::1]:9000 1")
	r.Register(Instance{ID: "b", Service: "orders", Address: "fd00::1", Port: 9000})
	g.Await("users", "10.0.0.9:9000 1")
	r.Register(instance("c", "users", "10.0.0.3"))
	g.Await("users", "10.0.0.9:9000 1", "10.0.0.3:80 1")
	r.Deregister("a")
	g.Await("users", "10.0.0.3:80 1")
	g.Put(&configv1.Service{Name: "users", Endpoints: []*configv1.Endpoint{{Host: "h", Port: 1}}})
	g.Eventually("fixed endpoints replace discovered ones", func() bool { return g.Endpoints("users") == nil })
	g.Put(service("users", r.Discovery("")))
	g.Await("users", "10.0.0.3:80 1")
	g.Delete("users")
	g.Eventually("nothing is left of it", func() bool {
		return len(g.Catalog.Endpoints().Services) == 0 && g.Metric("gateway_discovery_endpoints") == 0
	})
}

// isFast looks at the third of nine, so that slow moments of the machine say nothing.
func isFast(t *testing.T, r Registry) {
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("")))
	r.Register(instance("stays", "users", "10.0.0.1"))
	g.Await("users", "10.0.0.1:80 1")
	var took []time.Duration
	for range 9 {
		began := time.Now()
		r.Register(instance("comes", "users", "10.0.0.2"))
		g.Await("users", "10.0.0.1:80 1", "10.0.0.2:80 1")
		took = append(took, time.Since(began))
		r.Deregister("comes")
		g.Await("users", "10.0.0.1:80 1")
	}
	slices.Sort(took)
	t.Logf("from registration to publication: median %v, longest %v", took[len(took)/2], took[len(took)-1])
	if took[2] > time.Second {
		t.Error("most take more than a second")
	}
}

func findsBefore(t *testing.T, r Registry) {
	for i := range 3 {
		r.Register(instance(fmt.Sprint(i), "users", fmt.Sprint("10.0.0.", i)))
	}
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("")))
	g.Await("users", "10.0.0.0:80 1", "10.0.0.1:80 1", "10.0.0.2:80 1")
}

func selects(t *testing.T, r Registry) {
	r.Register(Instance{ID: "1", Service: "users", Address: "10.0.0.1", Port: 80, Tags: []string{"v1", "eu"}})
	r.Register(Instance{ID: "2", Service: "users", Address: "10.0.0.2", Port: 80, Tags: []string{"v2", "eu"}})
	r.Register(Instance{ID: "3", Service: "users", Address: "10.0.0.3", Port: 80})
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("")), service("users-eu", r.Discovery("users", "eu")), service("users-eu-2", r.Discovery("users", "eu", "v2")),
		service("nobody", r.Discovery("users", "v3")))
	g.Await("users", "10.0.0.1:80 1", "10.0.0.2:80 1", "10.0.0.3:80 1")
	g.Await("users-eu", "10.0.0.1:80 1", "10.0.0.2:80 1")
	g.Await("users-eu-2", "10.0.0.2:80 1")
	if e := g.Endpoints("nobody"); e != nil {
		t.Errorf("nobody has %v", e)
	}
	r.Register(Instance{ID: "1", Service: "users", Address: "10.0.0.1", Port: 80, Tags: []string{"v2", "eu"}})
	g.Await("users-eu-2", "10.0.0.1:80 1", "10.0.0.2:80 1")
}

func followsConfiguration(t *testing.T, r Registry) {
	r.Register(Instance{ID: "1", Service: "users", Address: "10.0.0.1", Port: 80, Tags: []string{"v1"}})
	r.Register(Instance{ID: "2", Service: "users", Address: "10.0.0.2", Port: 80, Tags: []string{"v2"}})
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("users", "v1")))
	g.Await("users", "10.0.0.1:80 1")
	r.Kill()
	g.AwaitMetric("gateway_discovery_up", 0)
	g.Put(service("users", r.Discovery("users", "v2")), service("later", r.Discovery("users")))
	g.Await("users", "10.0.0.2:80 1")
	g.Await("later", "10.0.0.1:80 1", "10.0.0.2:80 1")
	g.Delete("later")
	g.Eventually("the service that was deleted is forgotten", func() bool { return len(g.Catalog.Endpoints().Services) == 1 })
}

func leases(t *testing.T, r Registry) {
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("")))
	r.Register(instance("stays", "users", "10.0.0.1"))
	lose := r.RegisterLeased(instance("dies", "users", "10.0.0.2"))
	g.Await("users", "10.0.0.1:80 1", "10.0.0.2:80 1")
	lose()
	g.Await("users", "10.0.0.1:80 1")
}

func keepsLastKnown(t *testing.T, r Registry) {
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("")))
	r.Register(instance("1", "users", "10.0.0.1"))
	r.Register(instance("2", "users", "10.0.0.2"))
	g.Await("users", "10.0.0.1:80 1", "10.0.0.2:80 1")
	r.Wipe()
	g.AwaitMetric("gateway_discovery_kept_services", 1)
	if e := g.Endpoints("users"); len(e) != 2 {
		t.Errorf("the registry is empty, and the service has %v", e)
	}
	r.Register(instance("3", "users", "10.0.0.3"))
	g.Await("users", "10.0.0.3:80 1")
	g.AwaitMetric("gateway_discovery_kept_services", 0)
}

// keepsOverRestarts has a service that has instances, so that something is published after the restart, and nodes get
// all of it.
func keepsOverRestarts(t *testing.T, r Registry) {
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("")), service("orders", r.Discovery("")))
	r.Register(instance("1", "users", "10.0.0.1"))
	r.Register(instance("2", "orders", "10.0.0.2"))
	g.Await("users", "10.0.0.1:80 1")
	g.Await("orders", "10.0.0.2:80 1")
	r.Deregister("1")
	g.AwaitMetric("gateway_discovery_kept_services", 1)
	for range 2 {
		g.Restart(r.Source())
		g.AwaitMetric("gateway_discovery_kept_services", 1)
		g.Await("orders", "10.0.0.2:80 1")
		g.Await("users", "10.0.0.1:80 1")
		g.AwaitMetric("gateway_discovery_endpoints", 2)
	}
	r.Kill()
	g.Restart(r.Source()) // nobody can be asked
	g.Await("orders", "10.0.0.2:80 1")
	g.Await("users", "10.0.0.1:80 1")
	r.Restart()
	r.Register(instance("1", "users", "10.0.0.3"))
	g.Await("users", "10.0.0.3:80 1")
	g.AwaitMetric("gateway_discovery_kept_services", 0)
}

// dropsFormer has a service ask for something else, while the process runs and between two, with the registry there
// and away.
func dropsFormer(t *testing.T, r Registry) {
	g := Start(t, r.Source())
	r.Register(Instance{ID: "1", Service: "users", Address: "10.0.0.1", Port: 80, Tags: []string{"v1"}})
	g.Put(service("users", r.Discovery("users", "v1")), service("others", r.Discovery("users")))
	g.Await("users", "10.0.0.1:80 1")
	nothing := func(what string) {
		t.Helper()
		g.Eventually("nothing is left of what was asked for before: "+what, func() bool { return g.Endpoints("users") == nil })
		g.AwaitMetric("gateway_discovery_kept_services", 0)
		g.Await("others", "10.0.0.1:80 1")
	}
	g.Put(service("users", r.Discovery("nobody")))
	nothing("another name")
	g.Restart(r.Source())
	g.Await("others", "10.0.0.1:80 1")
	nothing("another name, after a restart")
	g.Put(service("users", r.Discovery("users")))
	g.Await("users", "10.0.0.1:80 1")
	g.Put(service("users", r.Discovery("users", "v2")))
	nothing("other tags")
	g.Put(service("users", r.Discovery("users", "v1")))
	g.Await("users", "10.0.0.1:80 1")

	// What nobody has answered yet takes nothing away. It does once it is answered, however many restarts later.
	r.Kill()
	g.Restart(r.Source())
	g.Put(service("users", r.Discovery("nobody")))
	g.Await("users", "10.0.0.1:80 1")
	g.Restart(r.Source())
	g.Await("users", "10.0.0.1:80 1")
	r.Restart()
	nothing("while the registry was away")
}

func allowsEmpty(t *testing.T, r Registry) {
	empty := r.Discovery("")
	empty.AllowEmpty = true
	g := Start(t, r.Source())
	g.Put(service("users", empty), service("orders", r.Discovery("users")))
	r.Register(instance("1", "users", "10.0.0.1"))
	g.Await("users", "10.0.0.1:80 1")
	g.Await("orders", "10.0.0.1:80 1")
	r.Deregister("1")
	g.Await("users")
	g.AwaitMetric("gateway_discovery_kept_services", 1)
	g.Await("orders", "10.0.0.1:80 1")
	allowed := r.Discovery("users")
	allowed.AllowEmpty = true
	g.Put(service("orders", allowed))
	g.Await("orders")
	g.AwaitMetric("gateway_discovery_kept_services", 0)
}

func ignoresBad(t *testing.T, r Registry) {
	r.RegisterBad("bad")
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("")))
	r.Register(instance("1", "users", "10.0.0.1"))
	r.Register(instance("2", "users", "10.0.0.2"))
	g.Await("users", "10.0.0.1:80 1", "10.0.0.2:80 1")
	g.AwaitMetric("gateway_discovery_bad_registrations_total", 1)
	r.RegisterBad("2")
	g.Await("users", "10.0.0.1:80 1")
	g.AwaitMetric("gateway_discovery_bad_registrations_total", 2)
	r.Restart()
	r.Register(instance("2", "users", "10.0.0.3"))
	g.Await("users", "10.0.0.1:80 1", "10.0.0.3:80 1")
	if n := g.Metric("gateway_discovery_bad_registrations_total"); n != 2 {
		t.Errorf("%v bad registrations are counted after everything was read again", n)
	}
}

func countsOnce(t *testing.T, r Registry) {
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("")))
	r.Register(Instance{ID: "z-old", Service: "users", Address: "10.0.0.1", Port: 80, Weight: 5})
	r.Register(Instance{ID: "a-new", Service: "users", Address: "10.0.0.1", Port: 80, Weight: 7})
	g.Await("users", "10.0.0.1:80 7")
	r.Deregister("a-new")
	g.Await("users", "10.0.0.1:80 5")
}

func outlivesKill(t *testing.T, r Registry) {
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("")))
	r.Register(instance("1", "users", "10.0.0.1"))
	g.Await("users", "10.0.0.1:80 1")
	for round := range 2 {
		r.Kill()
		g.AwaitMetric("gateway_discovery_up", 0)
		if e := g.Endpoints("users"); len(e) == 0 {
			t.Fatal("the endpoints are gone with the registry")
		}
		r.Restart()
		r.Register(instance("1", "users", fmt.Sprint("10.0.1.", round)))
		g.Await("users", fmt.Sprintf("10.0.1.%d:80 1", round))
		g.AwaitMetric("gateway_discovery_up", 1)
	}
}

func startsBefore(t *testing.T, r Registry) {
	r.Register(instance("1", "users", "10.0.0.1"))
	r.Kill()
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("")))
	r.Restart()
	g.Await("users", "10.0.0.1:80 1")
}

func followsReplaced(t *testing.T, r Registry) {
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("")))
	for i := range 20 { // so that the new registry's history is shorter
		r.Register(instance("1", "users", fmt.Sprint("10.0.0.", i)))
	}
	g.Await("users", "10.0.0.19:80 1")
	r.Replace()
	g.AwaitMetric("gateway_discovery_kept_services", 1)
	g.Await("users", "10.0.0.19:80 1")
	r.Register(instance("2", "users", "10.0.0.2"))
	g.Await("users", "10.0.0.2:80 1")
}

func outlivesCompaction(t *testing.T, r Registry) {
	g := Start(t, r.Source())
	g.Put(service("users", r.Discovery("")))
	r.Register(instance("1", "users", "10.0.0.1"))
	g.Await("users", "10.0.0.1:80 1")
	r.Compact()
	r.Register(instance("1", "users", "10.0.0.2"))
	g.Await("users", "10.0.0.2:80 1")
	r.Kill()
	r.Restart()
	r.Compact()
	r.Register(instance("1", "users", "10.0.0.3"))
	g.Await("users", "10.0.0.3:80 1")
}
