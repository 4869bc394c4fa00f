package stream

import (
	"testing"

	"gateway.internal/controlplane/internal/fleet"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/waittest"
)

// told receives until there is a directive about a circuit.
func (n *node) told() *streamv1.CircuitDirective {
	n.t.Helper()
	for {
		m, err := n.stream.Recv()
		if err != nil {
			n.t.Fatal(err)
		}
		if c := m.GetDirective().GetCircuit(); c != nil {
			return c
		}
	}
}

// TestCircuitsByHandReachNodes tells those that are connected, and those that connect later what is still forced open.
func TestCircuitsByHandReachNodes(t *testing.T) {
	p := newPlane(t)
	p.commit(route("r"))
	one, two := &node{t: t, id: "one"}, &node{t: t, id: "two"}
	one.connect(p, token)
	defer one.close()
	waittest.Until(t, "the node", func() bool { return len(p.fleet.Nodes()) == 1 })
	if n, ok := p.fleet.ForceOpen("s", fleet.Forced{}); n != 1 || !ok {
		t.Errorf("%d nodes are told, %t", n, ok)
	}
	if d := one.told(); d.GetAction() != streamv1.CircuitDirective_ACTION_FORCE_OPEN || d.GetServiceId() != "s" {
		t.Errorf("who is connected is told %v", d)
	}
	two.connect(p, token)
	defer two.close()
	if d := two.told(); d.GetAction() != streamv1.CircuitDirective_ACTION_FORCE_OPEN || d.GetServiceId() != "s" {
		t.Errorf("who connects later is told %v", d)
	}
	p.fleet.ResetCircuit("s")
	for _, n := range []*node{one, two} {
		if d := n.told(); d.GetAction() != streamv1.CircuitDirective_ACTION_RESET {
			t.Errorf("%s is told %v", n.id, d)
		}
	}
	if _, _, is := p.fleet.Circuits("s"); is {
		t.Error("it is still forced open")
	}
}
