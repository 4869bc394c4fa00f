package acme

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/controlplane/internal/catalog"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

func (k *Keeper) setFailures(name string, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n == 0 {
		delete(k.failures, name)
		return
	}
	k.failures[name] = n
}

var (
	leadingDesc  = prometheus.NewDesc("gateway_acme_leading", "1 when this control plane is the one that keeps certificates valid.", nil, nil)
	failuresDesc = prometheus.NewDesc("gateway_acme_failures", "Failed attempts in a row to obtain a certificate.", []string{"certificate"}, nil)
	expiryDesc   = prometheus.NewDesc("gateway_certificate_expiry_seconds", "Seconds until a certificate of the configuration ends; negative when it has ended.", []string{"certificate"}, nil)
)

// states collects what is known of certificates that are kept valid.
type states struct{ keeper *Keeper }

func (s states) Describe(ch chan<- *prometheus.Desc) {
	ch <- leadingDesc
	ch <- failuresDesc
}

func (s states) Collect(ch chan<- prometheus.Metric) {
	s.keeper.mu.Lock()
	defer s.keeper.mu.Unlock()
	leading := 0.0
	if s.keeper.leading {
		leading = 1
	}
	ch <- prometheus.MustNewConstMetric(leadingDesc, prometheus.GaugeValue, leading)
	for name, n := range s.keeper.failures {
		ch <- prometheus.MustNewConstMetric(failuresDesc, prometheus.GaugeValue, float64(n), name)
	}
}

// Expiries collects when the certificates of the newest configuration end, however they came to be there.
type Expiries struct{ Catalog *catalog.Catalog }

// Describe implements prometheus.Collector.
func (x Expiries) Describe(ch chan<- *prometheus.Desc) { ch <- expiryDesc }

// Collect implements prometheus.Collector.
func (x Expiries) Collect(ch chan<- prometheus.Metric) {
	v := x.Catalog.Current()
	if v == nil {
		return
	}
	for e := range v.Config.All(config.Certificate) {
		if end := e.Message.(*configv1.Certificate).GetNotAfter(); end != nil {
			ch <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, time.Until(end.AsTime()).Seconds(), e.Name())
		}
	}
}
