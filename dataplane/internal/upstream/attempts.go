package upstream

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// AttemptCounts count what has become of the attempts of exchanges that may have several at once.
type AttemptCounts struct {
	// Won had the response that the client was sent, Failed had none, and Canceled were ended for another one.
	Won, Failed, Canceled atomic.Uint64
	// TooLarge did not begin, since the request's body is longer than what is kept of it.
	TooLarge atomic.Uint64
}

var (
	attemptsDesc = prometheus.NewDesc("gateway_concurrent_attempts_total",
		"Attempts of requests that may have several at once: won (its response was sent), failed, or canceled for another.",
		[]string{"service", "outcome"}, nil)
	attemptsRefusedDesc = prometheus.NewDesc("gateway_concurrent_attempts_refused_total",
		"Attempts that did not begin since the request's body is longer than what is kept of it.", []string{"service"}, nil)
)

// collect emits the counts of a service that has had such exchanges.
func (c *AttemptCounts) collect(ch chan<- prometheus.Metric, service string) {
	won, failed, canceled, refused := c.Won.Load(), c.Failed.Load(), c.Canceled.Load(), c.TooLarge.Load()
	if won+failed+canceled+refused == 0 {
		return
	}
	emit := func(desc *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
	}
	emit(attemptsDesc, won, service, "won")
	emit(attemptsDesc, failed, service, "failed")
	emit(attemptsDesc, canceled, service, "canceled")
	emit(attemptsRefusedDesc, refused, service)
}
