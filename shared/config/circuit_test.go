package config

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func TestCircuitDefaults(t *testing.T) {
	for _, c := range []struct {
		name string
		in   *configv1.CircuitBreakerConfig
		want *Circuit
	}{
		{"none", nil, nil},
		{"all defaults", &configv1.CircuitBreakerConfig{}, &Circuit{Type: "window", Probes: 1, Interval: 10 * time.Second,
			Timeout: 30 * time.Second, MaxTimeout: 2 * time.Minute, Threshold: 0.5, Minimum: 20}},
		{"the specification's example", &configv1.CircuitBreakerConfig{MaxRequests: 100, Interval: "60s", Timeout: "30s",
			ErrorThreshold: proto.Float64(0.5)}, &Circuit{Type: "window", Probes: 100, Interval: time.Minute,
			Timeout: 30 * time.Second, MaxTimeout: 2 * time.Minute, Threshold: 0.5, Minimum: 20}},
		{"slow calls", &configv1.CircuitBreakerConfig{SlowCall: &configv1.SlowCall{Duration: "2s"}, Timeout: "1h"},
			&Circuit{Type: "window", Probes: 1, Interval: 10 * time.Second, Timeout: time.Hour, MaxTimeout: 4 * time.Hour,
				Threshold: 0.5, Minimum: 20, Slow: 2 * time.Second, SlowThreshold: 1}},
		{"a shared one", &configv1.CircuitBreakerConfig{Shared: true}, &Circuit{Type: "window", Probes: 1,
			Interval: 10 * time.Second, Timeout: 30 * time.Second, MaxTimeout: 2 * time.Minute, Threshold: 0.5, Minimum: 20,
			Shared: true}},
		{"a bulkhead", &configv1.CircuitBreakerConfig{Type: "hystrix", MaxConcurrent: 7, MaxPending: 3, MaxTimeout: "30s"},
			&Circuit{Type: "hystrix", Probes: 1, Interval: 10 * time.Second, Timeout: 30 * time.Second,
				MaxTimeout: 30 * time.Second, Threshold: 0.5, Minimum: 20, Concurrent: 7, Pending: 3}},
		{"an adaptive limit", &configv1.CircuitBreakerConfig{Adaptive: &configv1.AdaptiveConcurrency{}}, &Circuit{
			Type: "window", Probes: 1, Interval: 10 * time.Second, Timeout: 30 * time.Second, MaxTimeout: 2 * time.Minute,
			Threshold: 0.5, Minimum: 20, Adaptive: Adaptive{MinLimit: 3, MaxLimit: 1000, Window: 100 * time.Millisecond,
				Percentile: 0.5, Buffer: 0.25, Interval: time.Minute, Jitter: 0.15, Requests: 50, MinConcurrency: 3}}},
		{"an adaptive limit of its own", &configv1.CircuitBreakerConfig{Type: "hystrix", MaxPending: 4,
			Adaptive: &configv1.AdaptiveConcurrency{MaxLimit: 2, SampleWindow: "1s", Percentile: 90, Buffer: proto.Float64(0),
				MinRttInterval: "10s", MinRttJitter: proto.Float64(0), MinRttRequests: 5, MinConcurrency: 1}}, &Circuit{
			Type: "hystrix", Probes: 1, Interval: 10 * time.Second, Timeout: 30 * time.Second, MaxTimeout: 2 * time.Minute,
			Threshold: 0.5, Minimum: 20, Pending: 4, Adaptive: Adaptive{MinLimit: 2, MaxLimit: 2, Window: time.Second,
				Percentile: 0.9, Interval: 10 * time.Second, Requests: 5, MinConcurrency: 1}}},
	} {
		got := ServiceSettingsOf(&configv1.Service{Name: "s", CircuitBreakerConfig: c.in}).Circuit
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func limit(m *configv1.AdaptiveConcurrency) *configv1.CircuitBreakerConfig {
	return &configv1.CircuitBreakerConfig{Adaptive: m}
}

func TestCircuitProblems(t *testing.T) {
	for _, c := range []struct {
		in   *configv1.CircuitBreakerConfig
		want string // the field and the problem
	}{
		{&configv1.CircuitBreakerConfig{Type: "gradient"}, "type: has to be one of window, hystrix"},
		{&configv1.CircuitBreakerConfig{MaxRequests: 10001}, "max_requests: has to be from 0 to 10000"},
		{&configv1.CircuitBreakerConfig{Interval: "10ms"}, "interval: has to be from 1s to 1h"},
		{&configv1.CircuitBreakerConfig{Interval: "60"}, "interval: is no duration"},
		{&configv1.CircuitBreakerConfig{Timeout: "10ms"}, "timeout: has to be from 100ms to 1h"},
		{&configv1.CircuitBreakerConfig{Timeout: "1m", MaxTimeout: "59s"}, "max_timeout: has to be from 1m to 24h"},
		{&configv1.CircuitBreakerConfig{MaxTimeout: "1s"}, "max_timeout: has to be from 30s to 24h"},
		{&configv1.CircuitBreakerConfig{ErrorThreshold: proto.Float64(50)}, "error_threshold: has to be above 0 and up to 1"},
		{&configv1.CircuitBreakerConfig{ErrorThreshold: proto.Float64(0)}, "error_threshold: has to be above 0 and up to 1"},
		{&configv1.CircuitBreakerConfig{ErrorThreshold: proto.Float64(math.NaN())}, "error_threshold: has to be above 0"},
		{&configv1.CircuitBreakerConfig{SlowCall: &configv1.SlowCall{}}, "slow_call.duration: is required"},
		{&configv1.CircuitBreakerConfig{SlowCall: &configv1.SlowCall{Duration: "1s", Ratio: proto.Float64(2)}},
			"slow_call.ratio: has to be above 0 and up to 1"},
		{&configv1.CircuitBreakerConfig{MaxConcurrent: 1},
			`max_concurrent: is for the type "hystrix"; this circuit's is "window"`},
		{&configv1.CircuitBreakerConfig{Type: "hystrix", MaxPending: 1}, "max_pending: has no meaning without max_concurrent"},
		{&configv1.CircuitBreakerConfig{Type: "hystrix", ConsecutiveFailures: 1},
			`consecutive_failures: is for the type "window"; this circuit's is "hystrix"`},
		{&configv1.CircuitBreakerConfig{Type: "hystrix", SlowCall: &configv1.SlowCall{Duration: "1s"}},
			`slow_call: is for the type "window"; this circuit's is "hystrix"`},
		{&configv1.CircuitBreakerConfig{Type: "hystrix", MaxConcurrent: 1, Adaptive: &configv1.AdaptiveConcurrency{}},
			"max_concurrent: has no meaning with adaptive"},
		{limit(&configv1.AdaptiveConcurrency{MinLimit: 1_000_001}), "adaptive.min_limit: has to be from 0 to 1000000"},
		{limit(&configv1.AdaptiveConcurrency{MinLimit: 5, MaxLimit: 4}), "adaptive.max_limit: has to be from 5 to 1000000"},
		{limit(&configv1.AdaptiveConcurrency{MaxLimit: 1_000_001}), "adaptive.max_limit: has to be from 3 to 1000000"},
		{limit(&configv1.AdaptiveConcurrency{MinConcurrency: 4}), "adaptive.min_concurrency: has to be from 0 to 3"},
		{limit(&configv1.AdaptiveConcurrency{SampleWindow: "1ms"}), "adaptive.sample_window: has to be from 10ms to 1m"},
		{limit(&configv1.AdaptiveConcurrency{Percentile: 100}), "adaptive.percentile: has to be from 0 to 99"},
		{limit(&configv1.AdaptiveConcurrency{Buffer: proto.Float64(-1)}), "adaptive.buffer: has to be from 0 to 10"},
		{limit(&configv1.AdaptiveConcurrency{Buffer: proto.Float64(math.NaN())}), "adaptive.buffer: has to be from 0 to 10"},
		{limit(&configv1.AdaptiveConcurrency{MinRttInterval: "500ms"}),
			"adaptive.min_rtt_interval: has to be from 1s to 24h"},
		{limit(&configv1.AdaptiveConcurrency{MinRttInterval: "9s", SampleWindow: "1s"}),
			"adaptive.min_rtt_interval: has to be from 10s to 24h"},
		{limit(&configv1.AdaptiveConcurrency{SampleWindow: "10s"}), "adaptive.min_rtt_interval: has to be from 1m40s to 24h"},
		{limit(&configv1.AdaptiveConcurrency{MinRttJitter: proto.Float64(1.5)}),
			"adaptive.min_rtt_jitter: has to be from 0 to 1"},
		{limit(&configv1.AdaptiveConcurrency{MinRttRequests: 10_001}),
			"adaptive.min_rtt_requests: has to be from 0 to 10000"},
	} {
		_, err := Empty().Plan([]Edit{put(&configv1.Service{Name: "s", CircuitBreakerConfig: c.in})}, options())
		var problems Problems
		if !errors.As(err, &problems) || len(problems) != 1 {
			t.Errorf("%v: %v, want one problem", c.in, err)
			continue
		}
		p := problems[0]
		if got := p.Field + ": " + p.Message; !strings.HasPrefix(got, "circuit_breaker_config."+c.want) {
			t.Errorf("%v: %s, want %s", c.in, got, c.want)
		}
	}
}
