package telemetry

import (
	"log/slog"
	"runtime/debug"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Panics logs and counts defects that are kept from ending the process, each once. Its methods are safe for concurrent
// use.
type Panics struct {
	log   *slog.Logger
	count *atomic.Uint64
}

// Panics returns what logs panics there and counts them in the registry.
func (r *Registry) Panics(log *slog.Logger) *Panics { return &Panics{log, &r.panics} }

// Caught is called by a deferred function with what recover has returned. what says whose defect it is, and route may
// be empty.
func (p *Panics) Caught(what, route string, v any) {
	p.count.Add(1)
	p.log.Error(what+" panicked; the exchange was ended", "route", route, "panic", v, "stack", string(debug.Stack()))
}

// Contained is called by a deferred function as Caught is, of a defect that has ended something else than an exchange.
func (p *Panics) Contained(what string, v any) {
	p.count.Add(1)
	p.log.Error(what+" panicked", "panic", v, "stack", string(debug.Stack()))
}

var panicsDesc = prometheus.NewDesc("gateway_panics_total",
	"Defects that have ended one exchange or connection, or the making or closing of a middleware, each; the log says "+
		"where.", nil, nil)

func (r *Registry) collectPanics(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(panicsDesc, prometheus.CounterValue, float64(r.panics.Load()))
}
