package e2e

import (
	"fmt"
	"strings"
	"testing"

	"gateway.internal/shared/waittest"
)

// TestCircuitsByHand forces the circuit of a service open on two nodes, of which one comes later, and resets it: each
// node does so, and what the control plane shows of it is what they do.
func TestCircuitsByHand(t *testing.T) {
	g := newGateway(t)
	g.ready()
	early := g.node("early")
	g.must(fmt.Sprintf(`services:
  - name: pay
    endpoints: [{host: 127.0.0.1, port: %d}]
    circuit_breaker_config: {max_requests: 100, interval: 60s, timeout: 30s, error_threshold: 0.5}
routes: [{name: pay, path: /*, service_id: pay}]
`, service(t, "pay")), "apply", "-f", "-")
	early.runs(1)
	answers := func(n *node, want int, holds string) {
		t.Helper()
		waittest.Until(t, fmt.Sprintf("%d of %q", want, holds), func() bool {
			status, body := get(t, "http://"+n.http+"/x")
			return status == want && strings.Contains(body, holds)
		})
	}
	shown := func(want string, nodes int) {
		t.Helper()
		waittest.Until(t, fmt.Sprintf("%d nodes that are shown as %q", nodes, want), func() bool {
			return strings.Count(g.must("", "circuits", "pay"), want) == nodes
		})
	}
	answers(early, 200, "pay")
	said := g.must("", "circuits", "force-open", "pay")
	if !strings.Contains(said, "on 1 node of the control plane at 127.") {
		t.Error(said)
	}
	answers(early, 503, "CIRCUIT_OPEN")
	late := g.node("late")
	late.runs(1)
	answers(late, 503, "CIRCUIT_OPEN")
	shown("forced-open", 2)
	if said := g.must("", "circuits", "reset", "pay"); !strings.Contains(said, "on 2 nodes of the control plane at 127.") {
		t.Error(said)
	}
	answers(early, 200, "pay")
	answers(late, 200, "pay")
	shown("forced-open", 0)
}
