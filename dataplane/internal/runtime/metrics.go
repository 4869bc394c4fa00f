package runtime

import "github.com/prometheus/client_golang/prometheus"

var (
	versionDesc = prometheus.NewDesc("gateway_config_version", "The revision that the node runs.", nil, nil)
	ageDesc     = prometheus.NewDesc("gateway_config_applied_timestamp_seconds", "When the node applied it.", nil, nil)
	applyDesc   = prometheus.NewDesc("gateway_config_apply_seconds",
		"Time that the node takes to compile a configuration and swap it in.", nil, nil)
	consumersDesc = prometheus.NewDesc("gateway_config_consumers", "The consumers that the node knows.", nil, nil)
	refusedDesc   = prometheus.NewDesc("gateway_config_rejected_total", "Configurations that the node refused.", nil, nil)
)

// Describe implements prometheus.Collector.
func (r *Runtime) Describe(ch chan<- *prometheus.Desc) {
	ch <- versionDesc
	ch <- ageDesc
	ch <- applyDesc
	ch <- refusedDesc
	ch <- consumersDesc
}

// Collect implements prometheus.Collector.
func (r *Runtime) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(r.refused.Load()))
	ch <- prometheus.MustNewConstMetric(consumersDesc, prometheus.GaugeValue, float64(r.consumers.Load().Len()))
	ch <- prometheus.MustNewConstSummary(applyDesc, r.applied.Load(), float64(r.applyNanos.Load())/1e9, nil)
	if s := r.snapshot.Load(); s != nil {
		ch <- prometheus.MustNewConstMetric(versionDesc, prometheus.GaugeValue, float64(s.Revision))
		ch <- prometheus.MustNewConstMetric(ageDesc, prometheus.GaugeValue, float64(s.AppliedAt.UnixNano())/1e9)
	}
}
