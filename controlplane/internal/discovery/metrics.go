package discovery

import "github.com/prometheus/client_golang/prometheus"

// metrics are what discovery shows of itself. Labels are names of sources and services, which come from the
// configuration.
type metrics struct {
	up        *prometheus.GaugeVec
	endpoints *prometheus.GaugeVec
	kept      *prometheus.GaugeVec
	unsaved   prometheus.Gauge
	bad       *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gateway_discovery_up", Help: "1 while the registry is being followed; 0 while the last known endpoints are served.",
		}, []string{"source"}),
		endpoints: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gateway_discovery_endpoints", Help: "Endpoints that are published for a service.",
		}, []string{"source", "service"}),
		kept: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gateway_discovery_kept_services", Help: "Services that keep their last known endpoints because the registry has none of them any more.",
		}, []string{"source"}),
		unsaved: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_discovery_unsaved_services",
			Help: "Services whose endpoints, as they were found last, are not in the store yet: a restart now would not know them.",
		}),
		bad: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_discovery_bad_registrations_total", Help: "Registrations that were ignored because they can't be understood.",
		}, []string{"source"}),
	}
	r.MustRegister(m.up, m.endpoints, m.kept, m.unsaved, m.bad)
	return m
}
