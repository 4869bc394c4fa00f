package runtime

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/certificate"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
)

// TestSeriesOutliveNames applies changes of names, with requests in between, and scrapes after each: every series is
// there once, and no counter of a name goes backwards.
func TestSeriesOutliveNames(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	services := upstream.NewRegistry(log)
	defer services.Close()
	counters := telemetry.New(2)
	node := New(log, services, counters, certificate.NewTickets(nil))
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(counters, services, node)
	counted := func(when string) map[string]float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		sums := map[string]float64{}
		for _, f := range families {
			if f.GetName() == "gateway_requests_total" {
				for _, m := range f.GetMetric() {
					for _, l := range m.GetLabel() {
						if l.GetName() == "route" {
							sums[l.GetValue()] += m.GetCounter().GetValue()
						}
					}
				}
			}
		}
		return sums
	}
	now, ids := config.Empty(), 0
	want := map[string]float64{}
	for i, step := range configtest.Names(func(name string) *configv1.Service {
		return &configv1.Service{Name: name, Endpoints: []*configv1.Endpoint{{Host: "127.0.0.1", Port: 1}}}
	}) {
		plan, err := now.Plan(step.Edits(now), config.PlanOptions{Now: time.Unix(int64(i), 0), NewID: func() string { ids++; return fmt.Sprint("id", ids) }, AllowShrink: true})
		if err != nil {
			t.Fatalf("%s: %v", step.What, err)
		}
		before := node.Snapshot()
		if problems := node.Apply(Version{Epoch: "e", Revision: uint32(i + 1), Config: plan.Config}); len(problems) > 0 {
			t.Fatalf("%s: %v", step.What, problems)
		}
		now = plan.Config
		counted(step.What)
		for _, s := range []*Snapshot{before, node.Snapshot()} { // exchanges that were under way end too
			if s == nil {
				continue
			}
			for _, rule := range s.Table.All() {
				rule.Value.(*Route).Backends[0].Count.Done(0, &telemetry.Done{Method: telemetry.MethodOf("GET"), Status: 200})
				want[rule.Name]++
			}
		}
		got := counted(step.What + ", and then requests")
		for _, name := range step.Names {
			if got[name] != want[name] {
				t.Errorf("%s: %v requests to %s are counted, want %v", step.What, got[name], name, want[name])
			}
		}
	}
}
