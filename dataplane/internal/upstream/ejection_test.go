package upstream

import (
	"log/slog"
	"testing"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/upstream/balance"
	"gateway.internal/dataplane/internal/upstream/outcome"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/waittest"
)

// A service's results are counted while it has rules, and whoever is ejected stays so when something else changes.
func TestEjectionsFollowTheConfiguration(t *testing.T) {
	r := NewRegistry(slog.New(slog.DiscardHandler))
	defer r.Close()
	service := &configv1.Service{
		Name:             "s",
		Endpoints:        []*configv1.Endpoint{{Host: "127.0.0.1", Port: 1}, {Host: "127.0.0.1", Port: 2}},
		OutlierDetection: &configv1.OutlierDetection{Consecutive_5Xx: proto.Uint32(1)},
	}
	apply := func(change func(*configv1.Service)) *Service {
		t.Helper()
		service = proto.CloneOf(service)
		change(service)
		if problems := r.Apply(map[string]Definition{"1": {Service: service}}, nil); len(problems) > 0 {
			t.Fatal(problems)
		}
		return r.Get("1")
	}
	s := apply(func(*configv1.Service) {})
	first := s.current.Load().endpoints[0]
	ejected := func() bool { return first.State.Reasons().Has(balance.Ejected) }
	fail := func() {
		s.Ended(&Result{Result: outcome.Result{Kind: outcome.Answered, Status: 500}, Service: s, Endpoint: first})
	}
	fail()
	waittest.Until(t, "the ejection", ejected)
	apply(func(s *configv1.Service) { s.LoadBalancerType, s.Name = "least_connections", "people" })
	if !ejected() {
		t.Error("another strategy has given the endpoint back")
	}
	apply(func(s *configv1.Service) { s.OutlierDetection = nil })
	if ejected() || s.observers.Load() != nil {
		t.Errorf("without a rule: ejected %v, told of results %v", ejected(), s.observers.Load())
	}
	fail()
	apply(func(s *configv1.Service) {
		s.OutlierDetection = &configv1.OutlierDetection{Consecutive_5Xx: proto.Uint32(2)}
	})
	fail()
	if ejected() {
		t.Error("ejected for what happened without a rule")
	}
	fail()
	waittest.Until(t, "the ejection by a new rule", ejected)
}

// A new endpoint waits for its first check where the service has it so, and one that was there before does not.
func TestOnlyNewEndpointsBeginUnhealthy(t *testing.T) {
	r := NewRegistry(slog.New(slog.DiscardHandler))
	defer r.Close()
	apply := func(check *configv1.HealthCheckConfig, ports ...uint32) (healthy []bool) {
		t.Helper()
		s := &configv1.Service{Name: "s", HealthCheckConfig: check}
		for _, port := range ports {
			s.Endpoints = append(s.Endpoints, &configv1.Endpoint{Host: "127.0.0.1", Port: port})
		}
		if problems := r.Apply(map[string]Definition{"1": {Service: s}}, nil); len(problems) > 0 {
			t.Fatal(problems)
		}
		for _, e := range r.Get("1").current.Load().endpoints {
			healthy = append(healthy, e.State.Healthy())
		}
		return healthy
	}
	check := &configv1.HealthCheckConfig{Type: "tcp", Interval: "1h", InitialState: "unhealthy"}
	if h := apply(nil, 1); !h[0] {
		t.Error("unhealthy without checks")
	}
	if h := apply(check, 1, 2); !h[0] || h[1] {
		t.Errorf("healthy: %v; want the one that was there, and not the new one", h)
	}
	if h := apply(nil, 1, 2); !h[0] || !h[1] {
		t.Errorf("healthy without checks: %v", h)
	}
}
