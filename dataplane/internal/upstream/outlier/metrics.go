package outlier

import "github.com/prometheus/client_golang/prometheus"

var (
	ejectionsDesc = prometheus.NewDesc("gateway_outlier_ejections_total",
		"Ejections of endpoints, by the reason.", []string{"service", "reason"}, nil)
	overflowDesc = prometheus.NewDesc("gateway_outlier_ejections_overflow_total",
		"Ejections that the limits did not allow.", []string{"service"}, nil)
	ejectedDesc = prometheus.NewDesc("gateway_outlier_ejected",
		"1 while the endpoint is ejected.", []string{"service", "endpoint"}, nil)
)

// Describe implements prometheus.Collector.
func (d *Detector) Describe(ch chan<- *prometheus.Desc) {
	ch <- ejectionsDesc
	ch <- overflowDesc
	ch <- ejectedDesc
}

// Collect implements prometheus.Collector.
func (d *Detector) Collect(ch chan<- prometheus.Metric) {
	d.mu.Lock()
	defer d.mu.Unlock()
	// Two services may have one name while a configuration is being applied.
	type figures struct {
		ejections [reasons]uint64
		overflow  uint64
	}
	services := map[string]figures{}
	endpoints := map[[2]string]float64{}
	for _, g := range d.groups {
		of := services[g.service]
		of.overflow += g.overflow
		for reason, n := range g.ejections {
			of.ejections[reason] += n
		}
		services[g.service] = of
		for _, h := range g.hosts {
			is := 0.0
			if h.ejected() {
				is = 1
			}
			labels := [2]string{g.service, h.name}
			endpoints[labels] = max(endpoints[labels], is)
		}
	}
	for service, of := range services {
		ch <- prometheus.MustNewConstMetric(overflowDesc, prometheus.CounterValue, float64(of.overflow), service)
		for reason := Consecutive5xx; reason < reasons; reason++ {
			if n := of.ejections[reason]; n > 0 || reason <= ConsecutiveGatewayFailures {
				ch <- prometheus.MustNewConstMetric(ejectionsDesc, prometheus.CounterValue, float64(n), service, reason.String())
			}
		}
	}
	for labels, is := range endpoints {
		ch <- prometheus.MustNewConstMetric(ejectedDesc, prometheus.GaugeValue, is, labels[0], labels[1])
	}
}
