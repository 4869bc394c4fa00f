package telemetry

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"gateway.internal/shared/waittest"
)

// TestSets shows the metrics of each part with its labels, for as long as somebody holds one of them.
func TestSets(t *testing.T) {
	var sets Sets
	registry := prometheus.NewRegistry()
	registry.MustRegister(&sets)
	compare := func(when, want string) {
		t.Helper()
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	a := sets.Of("gateway_lock_", "middleware", "a")
	allowed := a.Counter("decisions_total", "Decisions.", "result", "allowed")
	allowed.Add(3)
	a.Counter("decisions_total", "Decisions.", "result", "denied")
	open := sets.Of("gateway_lock_", "middleware", "b").Gauge("open", "Doors.")
	open.Add(2)
	open.Add(-1)
	took := sets.Of("gateway_lock_", "middleware", "b").Durations("seconds", "Time.")
	took.Observe(1500 * time.Millisecond)
	// What is made anew goes on.
	again := sets.Of("gateway_lock_", "middleware", "a").Counter("decisions_total", "Decisions.", "result", "allowed")
	if again.Add(1); again != allowed {
		t.Error("one series has two counters")
	}
	const decisions = `# HELP gateway_lock_decisions_total Decisions.
# TYPE gateway_lock_decisions_total counter
gateway_lock_decisions_total{middleware="a",result="allowed"} 4
gateway_lock_decisions_total{middleware="a",result="denied"} 0
`
	compare("all", decisions+`# HELP gateway_lock_open Doors.
# TYPE gateway_lock_open gauge
gateway_lock_open{middleware="b"} 1
# HELP gateway_lock_seconds Time.
# TYPE gateway_lock_seconds summary
gateway_lock_seconds_sum{middleware="b"} 1.5
gateway_lock_seconds_count{middleware="b"} 1
`)
	runtime.KeepAlive(open)
	runtime.KeepAlive(took)
	waittest.Until(t, "what nobody holds is gone", func() bool {
		runtime.GC()
		return sets.named.Len() == 1
	})
	compare("without b", decisions)
	runtime.KeepAlive(allowed)
}

// TestDefinitionsOfMetrics refuses a metric that would make a whole scrape fail.
func TestDefinitionsOfMetrics(t *testing.T) {
	var sets Sets
	set := sets.Of("gateway_lock_", "middleware", "a")
	held := set.Counter("opened_total", "Doors.", "side", "left")
	for name, define := range map[string]func(s *Set){
		"another help":  func(s *Set) { s.Counter("opened_total", "Gates.", "side", "left") },
		"another kind":  func(s *Set) { s.Gauge("opened_total", "Doors.", "side", "left") },
		"another label": func(s *Set) { s.Counter("opened_total", "Doors.", "where", "left") },
		"no label":      func(s *Set) { s.Counter("opened_total", "Doors.") },
		"another's part": func(*Set) {
			sets.Of("gateway_lock_", "route", "a").Counter("opened_total", "Doors.", "side", "left")
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("it is taken")
				}
			}()
			define(set)
		})
	}
	runtime.KeepAlive(held)
	var none *Set
	none.Counter("a_total", "").Add(1)
	none.Gauge("a", "").Add(1)
	none.Durations("a_seconds", "").Observe(1)
}
