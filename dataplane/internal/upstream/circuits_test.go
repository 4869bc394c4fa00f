package upstream

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream/circuit"
	"gateway.internal/dataplane/internal/upstream/outcome"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/waittest"
)

func directive(action streamv1.CircuitDirective_Action, lasts time.Duration) *streamv1.CircuitDirective {
	return &streamv1.CircuitDirective{ServiceId: "1", Action: action, OpenMicros: uint64(lasts.Microseconds())}
}

// TestCircuitsByHand opens the circuit of a service that comes later, resets it, and reports what changes.
func TestCircuitsByHand(t *testing.T) {
	r := NewRegistry(slog.New(slog.DiscardHandler))
	defer r.Close()
	apply := func(c *configv1.CircuitBreakerConfig) {
		t.Helper()
		s := &configv1.Service{Id: "1", Name: "s", CircuitBreakerConfig: c}
		if problems := r.Apply(map[string]Definition{"1": {Service: s}}, nil); len(problems) > 0 {
			t.Fatal(problems)
		}
	}
	is := func(want circuit.State) {
		t.Helper()
		if got := r.Get("1").Circuit().Status(time.Now()).State; got != want {
			t.Errorf("it is %s, want %s", got, want)
		}
	}
	r.DirectCircuit(directive(streamv1.CircuitDirective_ACTION_FORCE_OPEN, time.Hour))
	apply(&configv1.CircuitBreakerConfig{})
	is(circuit.Forced)
	list := r.Circuits(false)
	if len(list) != 1 || list[0].GetState() != streamv1.CircuitStatus_STATE_FORCED_OPEN || list[0].GetUntil() == nil {
		t.Errorf("the first report: %v", list)
	}
	if list := r.Circuits(false); len(list) != 0 {
		t.Errorf("nothing has changed, and yet: %v", list)
	}
	if list := r.Circuits(true); len(list) != 1 {
		t.Errorf("all of them: %v", list)
	}
	apply(&configv1.CircuitBreakerConfig{Type: "hystrix"})
	is(circuit.Forced)
	apply(nil)
	if list := r.Circuits(false); len(list) != 1 || !list[0].GetGone() {
		t.Errorf("without a circuit: %v", list)
	}
	apply(&configv1.CircuitBreakerConfig{})
	is(circuit.Forced)
	r.DirectCircuit(directive(streamv1.CircuitDirective_ACTION_RESET, 0))
	is(circuit.Closed)
	apply(nil)
	apply(&configv1.CircuitBreakerConfig{})
	is(circuit.Closed)
}

// TestForcedForATime has a circuit that was forced open for a time not be forced open again after it, when its service
// comes back.
func TestForcedForATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(slog.New(slog.DiscardHandler))
		defer r.Close()
		apply := func(c *configv1.CircuitBreakerConfig) {
			t.Helper()
			s := &configv1.Service{Id: "1", Name: "s", CircuitBreakerConfig: c}
			if problems := r.Apply(map[string]Definition{"1": {Service: s}}, nil); len(problems) > 0 {
				t.Fatal(problems)
			}
		}
		apply(&configv1.CircuitBreakerConfig{})
		r.DirectCircuit(directive(streamv1.CircuitDirective_ACTION_FORCE_OPEN, time.Minute))
		for _, c := range []struct {
			after time.Duration
			want  circuit.State
		}{{59 * time.Second, circuit.Forced}, {2 * time.Second, circuit.Closed}} {
			time.Sleep(c.after) // virtual
			apply(nil)
			apply(&configv1.CircuitBreakerConfig{})
			if got := r.Get("1").Circuit().Status(time.Now()).State; got != c.want {
				t.Errorf("%s later it is %s, want %s", c.after, got, c.want)
			}
		}
	})
}

// TestForcedCircuitsAreForgotten: what is over is not kept, whether or not there is such a service.
func TestForcedCircuitsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(slog.New(slog.DiscardHandler))
		defer r.Close()
		for id, lasts := range map[string]time.Duration{"1": time.Minute, "2": time.Hour, "3": 0} {
			d := directive(streamv1.CircuitDirective_ACTION_FORCE_OPEN, lasts)
			d.ServiceId = id
			r.DirectCircuit(d)
		}
		time.Sleep(time.Minute)
		r.Circuits(false)
		if _, is := r.circuits.forced["1"]; is || len(r.circuits.forced) != 2 {
			t.Errorf("kept: %v", r.circuits.forced)
		}
	})
}

// TestTransitionsAreLogged has a circuit open: there is one line, with the service's name of now.
func TestTransitionsAreLogged(t *testing.T) {
	var out bytes.Buffer
	r := NewRegistry(slog.New(slog.NewTextHandler(&out, nil)))
	defer r.Close()
	m := &configv1.Service{
		Name: "shop", CircuitBreakerConfig: &configv1.CircuitBreakerConfig{ConsecutiveFailures: 2},
		Endpoints: []*configv1.Endpoint{{Host: "127.0.0.1", Port: 1}},
	}
	r.Apply(map[string]Definition{"1": {Service: m}}, nil)
	m = proto.CloneOf(m)
	m.Name = "store"
	r.Apply(map[string]Definition{"1": {Service: m}}, nil)
	s := r.Get("1")
	var results [3]Result
	for i := range results {
		x := &exchange.Exchange{}
		x.Now = time.Now()
		results[i].Result = outcome.Result{Kind: outcome.Answered, Status: 500, Ended: x.Now}
		s.Admit(x, &results[i].Permit)
	}
	for i := range results {
		s.Ended(&results[i])
	}
	const want = `level=WARN msg="a circuit has changed its state" ` +
		`service=store from=closed to=open reason=consecutive_failures`
	if got := out.String(); strings.Count(got, want) != 1 || strings.Count(got, "\n") != 1 {
		t.Errorf("the log has\n%swant once\n%s", got, want)
	}
}

// TestReadersDoNotWaitForChanges reads while a change is being made, such as one with a large table of consistent_hash.
func TestReadersDoNotWaitForChanges(t *testing.T) {
	r := NewRegistry(slog.New(slog.DiscardHandler))
	defer r.Close()
	done := make(chan struct{})
	go r.change(func() []*Endpoint {
		r.Get("1")
		r.Circuits(true)
		r.DirectCircuit(&streamv1.CircuitDirective{ServiceId: "1"})
		r.Collect(make(chan prometheus.Metric, 100))
		close(done)
		return nil
	})
	waittest.Receive(t, "readers, who do not wait for the end of a change", done)
}

// TestPercentilesOfACircuit has the times of responses be seen in metrics.
func TestPercentilesOfACircuit(t *testing.T) {
	r := NewRegistry(slog.New(slog.DiscardHandler))
	defer r.Close()
	r.Apply(map[string]Definition{"1": {Service: &configv1.Service{
		Name: "shop", CircuitBreakerConfig: &configv1.CircuitBreakerConfig{Type: "hystrix"},
		Endpoints: []*configv1.Endpoint{{Host: "127.0.0.1", Port: 1}},
	}}}, nil)
	s, x := r.Get("1"), &exchange.Exchange{}
	for i := range 200 {
		x.Now = time.Now()
		result := Result{Endpoint: s.Pick(x, nil), Service: s}
		s.Admit(x, &result.Permit)
		result.Kind, result.Status, result.Begun, result.Ended = outcome.Answered, 200, x.Now, x.Now
		if result.Took = 10 * time.Millisecond; i < 6 {
			result.Took = time.Second
		}
		s.Ended(&result)
		result.Permit.Leave()
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(r)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]float64{}
	for _, family := range families {
		if family.GetName() == "gateway_circuit_breaker_response_seconds" {
			for _, m := range family.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "quantile" {
						times[l.GetValue()] = m.GetGauge().GetValue()
					}
				}
			}
		}
	}
	for quantile, want := range map[string]float64{"0.5": 0.01, "0.95": 0.01, "0.99": 1} {
		if got := times[quantile]; got < want || got > want*17/16+0.001 {
			t.Errorf("%s of the responses came within %g s, want %g", quantile, got, want)
		}
	}
}
