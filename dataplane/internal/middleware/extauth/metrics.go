package extauth

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/telemetry"
)

// Metrics counts what all steps of this type do. It is a prometheus.Collector, and safe for concurrent use.
var Metrics = newMetrics()

type metrics struct {
	decisions, cached, seconds *prometheus.Desc
	// byName has the counters of each middleware, which go on when it changes.
	byName telemetry.Named[string, counters]
}

// counters count what has become of each.
type counters struct {
	allowed, denied, failed, cached atomic.Uint64
	requests, nanos                 atomic.Uint64
}

func newMetrics() *metrics {
	return &metrics{
		decisions: prometheus.NewDesc("gateway_ext_auth_decisions_total",
			"Requests that were decided about: allowed, denied, or error where the service could not say.",
			[]string{"middleware", "result"}, nil),
		cached: prometheus.NewDesc("gateway_ext_auth_cached_total",
			"Decisions that were taken from answers that are kept.", []string{"middleware"}, nil),
		seconds: prometheus.NewDesc("gateway_ext_auth_request_seconds",
			"Time that the service took, by requests to it.", []string{"middleware"}, nil),
	}
}

func (c *counters) asked(d time.Duration) {
	c.requests.Add(1)
	c.nanos.Add(uint64(max(d, 0)))
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.decisions
	ch <- m.cached
	ch <- m.seconds
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.byName.Each(func(name string, c *counters) {
		for result, n := range map[string]uint64{
			"allowed": c.allowed.Load(), "denied": c.denied.Load(), "error": c.failed.Load(),
		} {
			ch <- prometheus.MustNewConstMetric(m.decisions, prometheus.CounterValue, float64(n), name, result)
		}
		ch <- prometheus.MustNewConstMetric(m.cached, prometheus.CounterValue, float64(c.cached.Load()), name)
		ch <- prometheus.MustNewConstSummary(m.seconds, c.requests.Load(), float64(c.nanos.Load())/1e9, nil, name)
	})
}
