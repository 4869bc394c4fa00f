package mirror

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/telemetry"
)

// Metrics counts what all mirrors do. It is a prometheus.Collector, and safe for concurrent use.
var Metrics = newMetrics()

type metrics struct {
	requests, active *prometheus.Desc
	// byRoute has the counters of a route and its mirror's service, which go on when the route changes.
	byRoute telemetry.Named[[2]string, counters]
}

// counters count what has become of each.
type counters struct {
	answered, failed, dropped, tooLarge atomic.Uint64
	inFlight                            atomic.Int64
}

func newMetrics() *metrics {
	return &metrics{
		requests: prometheus.NewDesc("gateway_mirror_requests_total",
			"Copies of requests: answered, error (5xx or no answer), dropped (too many, or the request broke off) or too_large.",
			[]string{"route", "service", "result"}, nil),
		active: prometheus.NewDesc("gateway_mirror_requests_active",
			"Copies of requests that are under way.", []string{"route", "service"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.requests
	ch <- m.active
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.byRoute.Each(func(key [2]string, c *counters) {
		for result, n := range map[string]uint64{
			"answered": c.answered.Load(), "error": c.failed.Load(), "dropped": c.dropped.Load(), "too_large": c.tooLarge.Load(),
		} {
			ch <- prometheus.MustNewConstMetric(m.requests, prometheus.CounterValue, float64(n), key[0], key[1], result)
		}
		ch <- prometheus.MustNewConstMetric(m.active, prometheus.GaugeValue, float64(c.inFlight.Load()), key[0], key[1])
	})
}
