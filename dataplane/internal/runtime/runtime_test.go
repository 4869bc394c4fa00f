package runtime

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/certificate"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

func TestDiscovered(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	services := upstream.NewRegistry(log)
	defer services.Close()
	node := New(log, services, telemetry.New(1), certificate.NewTickets(nil))
	if !node.Discovered() {
		t.Error("something is missing before there is a configuration")
	}
	n := 0
	plan, err := config.Empty().Plan([]config.Edit{
		{Kind: config.Service, Put: &configv1.Service{Name: "fixed", Endpoints: []*configv1.Endpoint{{Host: "127.0.0.1", Port: 1}}}},
		{Kind: config.Service, Put: &configv1.Service{Name: "found", Discovery: &configv1.Discovery{Source: &configv1.Discovery_Etcd{Etcd: &configv1.EtcdDiscovery{Service: "s"}}}}},
	}, config.PlanOptions{Now: time.Unix(1, 0), NewID: func() string { n++; return fmt.Sprint("id", n) }})
	if err != nil {
		t.Fatal(err)
	}
	if problems := node.Apply(Version{Epoch: "e", Revision: 1, Config: plan.Config}); len(problems) > 0 {
		t.Fatal(problems)
	}
	if node.Discovered() {
		t.Error("nothing is missing before something was discovered")
	}
	node.ApplyEndpoints(map[string][]*configv1.Endpoint{plan.Config.ByName(config.Service, "found").ID(): nil})
	if !node.Discovered() {
		t.Error("something is missing after it was discovered that there is nothing")
	}
}

// TestRevisionsThatAreNotReportedAreCountedTogether: without reports nothing would let go of what each has served.
func TestRevisionsThatAreNotReportedAreCountedTogether(t *testing.T) {
	c := newChanging(t)
	direct := func(path string) config.Edit {
		return put(&configv1.Route{Name: "r", Path: path, DirectResponse: &configv1.DirectResponse{}})
	}
	c.apply(direct("/a"))
	if c.node.Snapshot().Traffic == nil {
		t.Error("a revision that is reported is not told apart")
	}
	plan, err := c.config.Plan([]config.Edit{direct("/b")}, config.PlanOptions{Now: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	for i, next := range []*config.Config{plan.Config, plan.Config, c.config} { // the second one changes nothing
		v := Version{Epoch: "files", Revision: uint32(i + 2), Config: next, Untold: true}
		if problems := c.node.Apply(v); len(problems) > 0 {
			t.Fatal(problems)
		}
		if s := c.node.Snapshot(); s.Revision != v.Revision || s.Traffic != nil {
			t.Errorf("revision %d is counted apart", v.Revision)
		}
	}
}
