package telemetry

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Upgrades counts the exchanges that have gone over to another protocol and are not over. Its methods are safe for
// concurrent use.
type Upgrades struct{ active atomic.Int64 }

// Upgrades returns the node's.
func (r *Registry) Upgrades() *Upgrades { return &r.upgrades }

// Begin counts one more.
func (u *Upgrades) Begin() { u.active.Add(1) }

// End counts one less.
func (u *Upgrades) End() { u.active.Add(-1) }

// Active returns how many there are.
func (u *Upgrades) Active() int64 { return u.active.Load() }

var upgradesDesc = prometheus.NewDesc("gateway_active_upgrades", "Exchanges that have gone over to another protocol, such as WebSocket, and are not over.", nil, nil)

func (u *Upgrades) collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(upgradesDesc, prometheus.GaugeValue, float64(u.Active()))
}
