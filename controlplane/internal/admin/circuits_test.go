package admin

import (
	"fmt"
	"strings"
	"testing"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// TestCircuitBreakers shows what nodes have reported, and changes it by hand.
func TestCircuitBreakers(t *testing.T) {
	a := newAPI(t)
	const at = "/api/v1/health/circuit-breakers"
	id, _ := a.must("POST", "/api/v1/config/services",
		`{"name":"pay","circuit_breaker_config":{"max_requests":100,"interval":"60s","timeout":"30s","error_threshold":0.5}}`,
	).field("id").(string)
	a.must("POST", "/api/v1/config/services", `{"name":"plain"}`)
	n, err := a.server.fleet.Connect(&streamv1.Hello{NodeId: "n1", InstanceId: "i"}, "")
	if err != nil {
		t.Fatal(err)
	}
	n.Report(&streamv1.Report{Circuits: []*streamv1.CircuitStatus{
		{ServiceId: id, State: streamv1.CircuitStatus_STATE_OPEN, Requests: 4, Failed: 3, Limit: 17,
			MinRttMicros: 2500, P99Micros: 40_000},
	}})
	list := a.must("GET", at, "").raw
	for _, want := range []string{`"service":"pay"`, `"state":"open"`, `"node_id":"n1"`, `"failed":`,
		`"limit":17`, `"min_rtt_ms":2.5`, `"p99_ms":40`} {
		if !strings.Contains(strings.ReplaceAll(fmt.Sprint(list), " ", ""), want) {
			t.Errorf("the list lacks %s: %s", want, list)
		}
	}
	if r := a.must("POST", at+"/pay/force-open?duration=10m", ""); fmt.Sprint(r.field("nodes")) != "1" {
		t.Errorf("forced open: %s", r.raw)
	}
	d := n.Directives()
	if len(d) != 1 || d[0].GetCircuit().GetOpenMicros() == 0 || d[0].GetCircuit().GetServiceId() != id {
		t.Errorf("the node is told %v", d)
	}
	if r := a.must("POST", at+"/"+id+"/reset", ""); fmt.Sprint(r.field("service")) != "pay" {
		t.Errorf("reset: %s", r.raw)
	}
	if d := n.Directives(); len(d) != 1 || d[0].GetCircuit().GetAction() != streamv1.CircuitDirective_ACTION_RESET {
		t.Errorf("the node is told %v", d)
	}
	for _, c := range []struct{ call, code, message string }{
		{at + "/pai/reset", "NOT_FOUND", `there is no service "pai"; did you mean "pay"? Services with a circuit are pay`},
		{at + "/plain/reset", "INVALID_ARGUMENT", "service has no circuit_breaker_config"},
		{at + "/pay/force-open?duration=10ms", "INVALID_ARGUMENT", "has to be from 1s to 720h"},
		{at + "/pay/force-open?duration=ten", "INVALID_ARGUMENT", "is no duration"},
	} {
		if r := a.call("POST", c.call, ""); r.Error.Code != c.code || !strings.Contains(r.Error.Message, c.message) {
			t.Errorf("%s: %s %s, want %s %s", c.call, r.Error.Code, r.Error.Message, c.code, c.message)
		}
	}
	n.Report(&streamv1.Report{Circuits: []*streamv1.CircuitStatus{{ServiceId: id, Gone: true}}})
	if r := a.must("GET", at+"?service=pay", ""); strings.Contains(fmt.Sprint(r.raw), "n1") {
		t.Errorf("what is gone is still there: %s", r.raw)
	}
}
