package coding

import (
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/telemetry"
)

// Metrics counts messages whose bodies are encoded or decoded. It is safe for concurrent use.
type Metrics struct {
	byCoding [exchange.Codings]struct{ messages, plain, encoded *telemetry.Counter }
}

// NewMetrics returns the metrics of a middleware for its codings, and for what it calls its messages: "MESSAGES_total"
// and, of their bodies, "plain_bytes_total" and "encoded_bytes_total", by algorithm.
func NewMetrics(set *telemetry.Set, messages, verb string, codings []exchange.Coding) *Metrics {
	m := &Metrics{}
	for _, c := range codings {
		m.byCoding[c].messages = set.Counter(messages+"_total", "Bodies of "+messages+" that were "+verb+".",
			"algorithm", c.String())
		m.byCoding[c].plain = set.Counter("plain_bytes_total", "Size of these bodies without the content coding.",
			"algorithm", c.String())
		m.byCoding[c].encoded = set.Counter("encoded_bytes_total", "Size of these bodies in the content coding.",
			"algorithm", c.String())
	}
	return m
}

// Message counts a message.
func (m *Metrics) Message(c exchange.Coding) { m.byCoding[c].messages.Add(1) }

// Bytes counts bytes of a body.
func (m *Metrics) Bytes(c exchange.Coding, plain, encoded int) {
	m.byCoding[c].plain.Add(uint64(plain))
	m.byCoding[c].encoded.Add(uint64(encoded))
}
