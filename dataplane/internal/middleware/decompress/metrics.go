package decompress

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/coding"
)

// refusal is why a request is refused.
type refusal uint8

const (
	malformed refusal = iota
	tooLarge
	tooDense
)

// refusals are the values of the label "reason".
var refusals = [...]string{"malformed", "max_bytes", "max_ratio"}

var refusedDesc = prometheus.NewDesc("gateway_decompress_refused_total",
	"Requests whose bodies could not be decoded, or not within the bounds.", []string{"reason"}, nil)

// metrics is what coding.Metrics counts, and refusals.
type metrics struct {
	*coding.Metrics
	refused [len(refusals)]atomic.Uint64
}

func newMetrics() *metrics {
	return &metrics{Metrics: coding.NewMetrics("decompress", "requests", "decoded")}
}

func (m *metrics) refuse(why refusal) { m.refused[why].Add(1) }

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.Metrics.Describe(ch)
	ch <- refusedDesc
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.Metrics.Collect(ch)
	for i, reason := range refusals {
		if n := m.refused[i].Load(); n > 0 {
			ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(n), reason)
		}
	}
}
