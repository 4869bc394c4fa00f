package upstream

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// While a configuration is being applied, a service that is gone is still there, beside the one that has its name now.
func TestTwoServicesOfANameAreOneSeries(t *testing.T) {
	r := NewRegistry(slog.New(slog.DiscardHandler))
	defer r.Close()
	definition := Definition{Service: &configv1.Service{Name: "s", Endpoints: []*configv1.Endpoint{{Host: "127.0.0.1", Port: 1}}}}
	if problems := r.Apply(map[string]Definition{"1": definition, "2": definition}, nil); len(problems) > 0 {
		t.Fatal(problems)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(r)
	families, err := registry.Gather()
	if err != nil || len(families) == 0 {
		t.Errorf("%v, %v", families, err)
	}
	for _, family := range families {
		if len(family.GetMetric()) != 1 {
			t.Errorf("%v", family)
		}
	}
}
