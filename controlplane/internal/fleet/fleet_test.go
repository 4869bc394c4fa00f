package fleet

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// The clock of the replica that committed may be ahead.
func TestNoTimeIsNegative(t *testing.T) {
	registry := prometheus.NewRegistry()
	f := New(registry)
	s, err := f.Connect(&streamv1.Hello{NodeId: "a", InstanceId: "1"}, "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	s.Result(&streamv1.Result{Revision: 7, Outcome: streamv1.Result_OUTCOME_APPLIED}, time.Now().Add(time.Hour))
	if ms := f.Nodes()[0].GetPropagationMs(); ms != 0 {
		t.Errorf("a revision that was committed in an hour was applied in %v ms", ms)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "gateway_config_propagation_seconds" && family.GetMetric()[0].GetHistogram().GetSampleSum() != 0 {
			t.Errorf("the metric has %v", family.GetMetric())
		}
	}
}
