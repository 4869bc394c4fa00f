package telemetry

import (
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	requestsDesc  = prometheus.NewDesc("gateway_requests_total", "Requests that ended.", []string{"method", "route", "service", "status_code"}, nil)
	durationDesc  = prometheus.NewDesc("gateway_request_duration_seconds", "From a request's head to its response's last byte.", []string{"method", "route", "service"}, nil)
	upstreamDesc  = prometheus.NewDesc("gateway_upstream_duration_seconds", "From sending a request to the head of the service's response.", []string{"method", "route", "service"}, nil)
	sizeDesc      = prometheus.NewDesc("gateway_response_size_bytes", "Size of response bodies.", []string{"method", "route", "service"}, nil)
	errorsDesc    = prometheus.NewDesc("gateway_errors_total", "Errors of the gateway by code.", []string{"code", "route", "service"}, nil)
	handshakeDesc = prometheus.NewDesc("gateway_tls_handshakes_total", "TLS handshakes with clients: \"done\" or \"failed\".", []string{"result"}, nil)
	refusedDesc   = prometheus.NewDesc("gateway_connections_refused_total", "Client connections that were turned away.", []string{"reason"}, nil)
	activeDesc    = prometheus.NewDesc("gateway_active_connections", "Open client connections.", nil, nil)
)

// Describe implements prometheus.Collector.
func (r *Registry) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestsDesc, durationDesc, upstreamDesc, sizeDesc, errorsDesc, handshakeDesc, refusedDesc, activeDesc, upgradesDesc, panicsDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (r *Registry) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(activeDesc, prometheus.GaugeValue, float64(r.connections.Load()))
	r.upgrades.collect(ch)
	r.collectPanics(ch)
	for i, result := range []string{"failed", "done"} {
		if n := r.handshakes[i].Load(); n > 0 {
			ch <- prometheus.MustNewConstMetric(handshakeDesc, prometheus.CounterValue, float64(n), result)
		}
	}
	for i, reason := range refusals {
		if n := r.refused[i].Load(); n > 0 {
			ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(n), reason)
		}
	}
	for l, sum := range r.series() {
		for code, n := range sum.faults {
			ch <- prometheus.MustNewConstMetric(errorsDesc, prometheus.CounterValue, float64(n), string(code), l.route, l.service)
		}
		for mi := range sum.methods {
			m := &sum.methods[mi]
			if m.count == 0 {
				continue
			}
			values := []string{methods[mi], l.route, l.service}
			for status, n := range m.statuses {
				ch <- prometheus.MustNewConstMetric(requestsDesc, prometheus.CounterValue, float64(n), append(slices.Clone(values), strconv.Itoa(status))...)
			}
			ch <- prometheus.MustNewConstHistogram(durationDesc, m.count, float64(m.durationNanos)/1e9, cumulative(bounds[:], m.duration[:]), values...)
			ch <- prometheus.MustNewConstHistogram(sizeDesc, m.count, float64(m.sizeBytes), cumulative(sizeBounds[:], m.size[:]), values...)
			if m.upstreamCount > 0 {
				ch <- prometheus.MustNewConstHistogram(upstreamDesc, m.upstreamCount, float64(m.upstreamNs)/1e9, cumulative(bounds[:], m.upstream[:]), values...)
			}
		}
	}
}

func cumulative(bounds []float64, counts []uint64) map[float64]uint64 {
	out := make(map[float64]uint64, len(bounds))
	sum := uint64(0)
	for i, b := range bounds {
		sum += counts[i]
		out[b] = sum
	}
	return out
}
