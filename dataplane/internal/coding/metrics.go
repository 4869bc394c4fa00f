package coding

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/exchange"
)

// Metrics counts messages whose bodies are encoded or decoded. It is a prometheus.Collector, and safe for concurrent
// use.
type Metrics struct {
	messages, plain, encoded *prometheus.Desc
	byCoding                 [exchange.Codings]struct{ messages, plain, encoded atomic.Uint64 }
}

// NewMetrics returns the metrics of a middleware type, for what it calls its messages: "gateway_TYPE_MESSAGES_total"
// and, of their bodies, "gateway_TYPE_plain_bytes_total" and "gateway_TYPE_encoded_bytes_total", by algorithm.
func NewMetrics(typeName, messages, verb string) *Metrics {
	labels := []string{"algorithm"}
	desc := func(what, help string) *prometheus.Desc {
		return prometheus.NewDesc("gateway_"+typeName+"_"+what+"_total", help, labels, nil)
	}
	return &Metrics{
		messages: desc(messages, "Bodies of "+messages+" that were "+verb+"."),
		plain:    desc("plain_bytes", "Size of these bodies without the content coding."),
		encoded:  desc("encoded_bytes", "Size of these bodies in the content coding."),
	}
}

// Message counts a message.
func (m *Metrics) Message(c exchange.Coding) { m.byCoding[c].messages.Add(1) }

// Bytes counts bytes of a body.
func (m *Metrics) Bytes(c exchange.Coding, plain, encoded int) {
	m.byCoding[c].plain.Add(uint64(plain))
	m.byCoding[c].encoded.Add(uint64(encoded))
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.messages
	ch <- m.plain
	ch <- m.encoded
}

// Collect implements prometheus.Collector. An algorithm that was never used has no series.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for i := range m.byCoding {
		c, name := &m.byCoding[i], exchange.Coding(i).String()
		if n := c.messages.Load(); n > 0 {
			ch <- prometheus.MustNewConstMetric(m.messages, prometheus.CounterValue, float64(n), name)
			ch <- prometheus.MustNewConstMetric(m.plain, prometheus.CounterValue, float64(c.plain.Load()), name)
			ch <- prometheus.MustNewConstMetric(m.encoded, prometheus.CounterValue, float64(c.encoded.Load()), name)
		}
	}
}
