package stream

import (
	"testing"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/waittest"
)

// directive receives until there is one that is wanted.
func (n *node) directive(wanted func(*streamv1.Directive) bool) *streamv1.Directive {
	n.t.Helper()
	for {
		m, err := n.stream.Recv()
		if err != nil {
			n.t.Fatal(err)
		}
		if d := m.GetDirective(); d != nil && wanted(d) {
			return d
		}
	}
}

// TestChecksAreShared: nodes are told how many there are, and what one of them reports of an endpoint.
func TestChecksAreShared(t *testing.T) {
	p := newPlane(t)
	p.commit(route("r"))
	one, two := &node{t: t, id: "one"}, &node{t: t, id: "two"}
	one.connect(p, token)
	defer one.close()
	waittest.Until(t, "the node", func() bool { return len(p.fleet.Nodes()) == 1 })
	two.connect(p, token)
	defer two.close()
	for _, n := range []*node{one, two} {
		n.directive(func(d *streamv1.Directive) bool { return d.GetFleetSize().GetNodes() == 2 })
	}
	one.send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Report{Report: &streamv1.Report{
		Endpoints: []*streamv1.EndpointHealth{{
			ServiceId: "s", Host: "h", Port: 80, Healthy: true, Error: "refused", FailingAddresses: 1,
		}},
	}}})
	d := two.directive(func(d *streamv1.Directive) bool { return d.GetCheck() != nil })
	list := d.GetCheck().GetEndpoints()
	if len(list) != 1 || list[0].GetServiceId() != "s" || list[0].GetHost() != "h" || list[0].GetPort() != 80 {
		t.Errorf("told to check %v", list)
	}
}
