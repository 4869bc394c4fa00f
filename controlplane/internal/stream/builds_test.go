package stream

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
	"gateway.internal/shared/waittest"
)

// TestNodesOfTwoBuilds: what a later build has committed reaches a node through a control plane that does not know all
// of it, byte by byte. The node goes on to another control plane, which knows what it runs, and both show what it says
// of the field.
func TestNodesOfTwoBuilds(t *testing.T) {
	p := newPlane(t)
	p.commit(route("a"))
	now := timestamppb.Now()
	newer := configtest.Newer(t, &configv1.Route{Id: "b", Name: "b", CreatedAt: now, UpdatedAt: now, Path: "/b",
		Labels: map[string]string{"x": "1", "y": "2"}})
	ch := []config.Change{{Kind: config.Route, After: newer}}
	head := store.Head{Epoch: p.catalog.Current().Epoch, Number: 1}
	next, err := p.catalog.Current().Config.With(ch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.store.Commit(t.Context(), head, func([]store.Revision) (*store.Draft, error) {
		return &store.Draft{Hash: next.Hash(), Changes: ch}, nil
	}); err != nil {
		t.Fatal(err)
	}
	waittest.UntilNil(t, "the later build's revision", func() error {
		if v := p.catalog.Current(); v.Revision != 2 {
			return fmt.Errorf("at revision %d; %w", v.Revision, p.catalog.StoreError())
		}
		return nil
	})
	n := &node{t: t, id: "n1"}
	n.connect(p, token)
	for n.revision < 2 {
		n.answer(n.receive(), streamv1.Result_OUTCOME_DEGRADED, &streamv1.Problem{Kind: "route", Name: "b", Field: "field 9"})
	}
	if n.config.Hash() != next.Hash() || len(n.config.Unknown()) != 1 {
		t.Errorf("the node has %x, the later build committed %x", n.config.Hash(), next.Hash())
	}
	shown := func(p *plane, want int) {
		t.Helper()
		waittest.UntilNil(t, "the node's degradation", func() error {
			list := p.fleet.Nodes()
			if len(list) != 1 || list[0].GetRevision() != 2 || len(list[0].GetDegraded()) != want {
				return fmt.Errorf("%v", list)
			}
			return nil
		})
	}
	shown(p, 1)
	n.close()
	n.full = 0
	other := startPlane(t, p.store)
	hello := &streamv1.Hello{Degradation: &streamv1.Degradation{Problems: []*streamv1.Problem{{Field: "field 9"}}}}
	n.connectAs(other, token, hello)
	defer n.close()
	shown(other, 1)
	report := func(d *streamv1.Degradation) {
		n.send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Report{Report: &streamv1.Report{Degradation: d}}})
	}
	report(nil)
	other.commit(route("c"))
	n.answer(n.receive(), streamv1.Result_OUTCOME_APPLIED)
	if n.full != 0 {
		t.Error("the other control plane did not know what the node runs")
	}
	report(&streamv1.Degradation{Problems: []*streamv1.Problem{{}, {}}})
	report(nil)
	waittest.UntilNil(t, "what the node reports", func() error {
		if list := other.fleet.Nodes(); len(list[0].GetDegraded()) != 2 {
			return fmt.Errorf("%v", list)
		}
		return nil
	})
	report(&streamv1.Degradation{})
	waittest.UntilNil(t, "that it works again", func() error {
		if list := other.fleet.Nodes(); len(list[0].GetDegraded()) != 0 {
			return fmt.Errorf("%v", list)
		}
		return nil
	})
}
