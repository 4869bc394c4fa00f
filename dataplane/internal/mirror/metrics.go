package mirror

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what all mirrors do. It is a prometheus.Collector, and safe for concurrent use.
var Metrics = newMetrics()

type metrics struct {
	requests, active *prometheus.Desc

	mu      sync.Mutex
	byRoute map[[2]string]*counters
}

// counters are those of a route and its mirror's service. They go on when the route changes.
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
		byRoute: map[[2]string]*counters{},
	}
}

func (m *metrics) of(route, service string) *counters {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := [2]string{route, service}
	c := m.byRoute[key]
	if c == nil {
		c = &counters{}
		m.byRoute[key] = c
	}
	return c
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.requests
	ch <- m.active
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, c := range m.byRoute {
		for result, n := range map[string]uint64{
			"answered": c.answered.Load(), "error": c.failed.Load(), "dropped": c.dropped.Load(), "too_large": c.tooLarge.Load(),
		} {
			ch <- prometheus.MustNewConstMetric(m.requests, prometheus.CounterValue, float64(n), key[0], key[1], result)
		}
		ch <- prometheus.MustNewConstMetric(m.active, prometheus.GaugeValue, float64(c.inFlight.Load()), key[0], key[1])
	}
}
