package mirror

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/subrequest"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/shared/routing"
)

// TestCopyThatPanics costs the process nothing: the copy is counted as one that got no answer.
func TestCopyThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry, log := telemetry.New(1), &bytes.Buffer{}
		panics := registry.Panics(slog.New(slog.NewTextHandler(log, nil)))
		m := &Mirror{
			client: subrequest.NewClient(&upstream.Service{}, panics), // one that was not made panics when it is asked
			share:  &routing.Mirror{Percent: 100}, count: newCounters(registry.Sets(), "r", "s"), panics: panics,
		}
		x := &exchange.Exchange{}
		x.Request.Method, x.Request.Path, x.Route = "GET", "/", "r"
		c := m.Begin(x, nil)
		synctest.Wait()
		c.End()
		if failed, active := failedOf(t, registry), m.count.inFlight.Add(0); failed != 1 || active != 0 {
			t.Errorf("%v failed, %d are under way", failed, active)
		}
		if s := log.String(); strings.Count(s, "panicked") != 1 || !strings.Contains(s, "route=r") {
			t.Errorf("the log says %q", s)
		}
	})
}

// failedOf returns how many copies have failed.
func failedOf(t *testing.T, r *telemetry.Registry) (n float64) {
	t.Helper()
	all := prometheus.NewRegistry()
	all.MustRegister(r.Sets())
	families, err := all.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "result" && l.GetValue() == "error" {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}
