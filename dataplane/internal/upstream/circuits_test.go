package upstream

import (
	"log/slog"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/upstream/circuit"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
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
