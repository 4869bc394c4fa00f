package decompress

import (
	"gateway.internal/dataplane/internal/coding"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/telemetry"
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

// metrics is what coding.Metrics counts, and refusals.
type metrics struct {
	*coding.Metrics
	refused [len(refusals)]*telemetry.Counter
}

func newMetrics(set *telemetry.Set, codings []exchange.Coding) *metrics {
	m := &metrics{Metrics: coding.NewMetrics(set, "requests", "decoded", codings)}
	for i, reason := range refusals {
		m.refused[i] = set.Counter("refused_total",
			"Requests whose bodies could not be decoded, or not within the bounds.", "reason", reason)
	}
	return m
}

func (m *metrics) refuse(why refusal) { m.refused[why].Add(1) }
