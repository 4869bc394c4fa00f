package overload

import (
	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/shared/config"
)

var (
	shedDesc = prometheus.NewDesc("gateway_requests_shed_total",
		"Requests that were turned away since the node had too much to do.", []string{"priority"}, nil)
	pressureDesc = prometheus.NewDesc("gateway_overload_pressure",
		"How close the node is to a limit: 1 at the limit. Requests of low priority are turned away from 0.5 on.",
		[]string{"signal"}, nil)
	activeDesc = prometheus.NewDesc("gateway_overload_requests",
		"Exchanges under way that count for --max-requests.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *Controller) Describe(ch chan<- *prometheus.Desc) {
	ch <- shedDesc
	ch <- pressureDesc
	ch <- activeDesc
}

// Collect implements prometheus.Collector.
func (c *Controller) Collect(ch chan<- prometheus.Metric) {
	if c == nil {
		return
	}
	for p := range config.Priorities {
		n := c.shed[p].Load()
		ch <- prometheus.MustNewConstMetric(shedDesc, prometheus.CounterValue, float64(n), p.String())
	}
	pressure := func(signal string, n int64) {
		ch <- prometheus.MustNewConstMetric(pressureDesc, prometheus.GaugeValue, float64(n)/full, signal)
	}
	if limit := int64(c.settings.MaxRequests); limit > 0 {
		active := c.active.load()
		ch <- prometheus.MustNewConstMetric(activeDesc, prometheus.GaugeValue, float64(active))
		pressure("requests", active*full/limit)
	}
	if c.settings.MaxMemory > 0 {
		pressure("memory", c.memory.Load())
	}
	if c.settings.MaxDelay > 0 {
		pressure("delay", c.delay.Load())
	}
}
