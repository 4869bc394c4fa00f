package upstream

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/upstream/retry"
	"gateway.internal/shared/config"
)

// Retries is what all retries and hedges of a service share. It outlives changes of the configuration.
type Retries struct {
	Budget    retry.Budget
	Latencies retry.Latencies
	// Exhausted counts retries and hedges that the budget did not allow, HedgesWon those hedges whose response was the
	// client's, and HedgesLost the others.
	Exhausted, HedgesWon, HedgesLost atomic.Uint64
	// reasons count the retries, by the condition's index.
	reasons [16]atomic.Uint64
}

// Count counts a retry for one condition.
func (r *Retries) Count(why config.RetryConditions) { r.reasons[why.Index()].Add(1) }

var (
	retriesDesc = prometheus.NewDesc("gateway_retries_total",
		"Requests that were sent again, by the condition of the policy that allowed it.", []string{"service", "reason"}, nil)
	exhaustedDesc = prometheus.NewDesc("gateway_retry_budget_exhausted_total",
		"Retries and hedges that did not begin since the service's budget was used up.", []string{"service"}, nil)
	hedgesDesc = prometheus.NewDesc("gateway_hedges_total",
		"Requests that were sent a second time since the first attempt was slow, by whether the client got that response.",
		[]string{"service", "outcome"}, nil)
)

// collect emits the counts of a service; those of what it has never had are left out.
func (r *Retries) collect(ch chan<- prometheus.Metric, service string) {
	emit := func(desc *prometheus.Desc, n uint64, labels ...string) {
		if n > 0 {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
		}
	}
	for i, name := range config.RetryReasons() {
		emit(retriesDesc, r.reasons[i].Load(), service, name)
	}
	emit(exhaustedDesc, r.Exhausted.Load(), service)
	emit(hedgesDesc, r.HedgesWon.Load(), service, "won")
	emit(hedgesDesc, r.HedgesLost.Load(), service, "lost")
}
