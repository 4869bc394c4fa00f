package stream

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"gateway.internal/controlplane/internal/fleet"
	"gateway.internal/controlplane/internal/store"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

func target(p *plane, revision uint32) fleet.Target {
	return fleet.Target{Epoch: p.catalog.Current().Epoch, Revision: revision}
}

// TestNodesHeldOnRevisions: each node runs its own target, with the consumers of it, and goes back and forth by deltas
// between any two, those in memory and those of the history. What is committed reaches only nodes that nobody aims.
func TestNodesHeldOnRevisions(t *testing.T) {
	p := newPlane(t)
	hashes := map[uint32][2][32]byte{}
	for i := range uint32(80) { // more than are kept in memory
		v := p.commit(route(fmt.Sprint("r", i%7, "-", i)), consumer(fmt.Sprint("c", i%5, "-", i)))
		hashes[v.Revision] = [2][32]byte{v.Config.HashOf(config.Together()...), v.Config.HashOf(config.Consumer)}
	}
	nodes := make([]*taker, 3)
	run := func(i int, revision uint32) {
		t.Helper()
		want := hashes[revision]
		nodes[i].until(&streamv1.SetState{Hash: want[1][:]}, revision)
		if nodes[i].config.Hash() != want[0] {
			t.Fatalf("node %d runs another content than revision %d", i, revision)
		}
		waittest.UntilNil(t, "the fleet's view", func() error {
			for _, v := range p.fleet.Nodes() {
				if v.GetId() == nodes[i].id && v.GetRevision() != revision {
					return fmt.Errorf("%v", v)
				}
			}
			return nil
		})
	}
	for i := range nodes {
		nodes[i] = &taker{node: node{t: t, id: fmt.Sprint("n", i)}}
		nodes[i].meet(p)
		defer func() { nodes[i].close() }()
		run(i, 80)
	}
	for step, targets := range [][3]uint32{{80, 79, 3}, {2, 40, 3}, {78, 5, 80}, {79, 3, 2}} {
		for i, revision := range targets {
			p.fleet.Aim(nodes[i].id, target(p, revision))
		}
		for i, revision := range targets {
			run(i, revision)
		}
		if step == 1 {
			v := p.commit(route("unseen"), consumer("unseen"))
			hashes[v.Revision] = [2][32]byte{v.Config.HashOf(config.Together()...), v.Config.HashOf(config.Consumer)}
			nodes[2].close()
			nodes[2].meet(p) // it keeps its target
		}
	}
	for _, v := range p.fleet.Nodes() {
		if v.GetTargetRevision() != v.GetRevision() || v.GetTargetProblem() != "" {
			t.Errorf("%v", v)
		}
	}
	for i := range nodes {
		p.fleet.Release(nodes[i].id)
	}
	for i := range nodes {
		run(i, 81)
		if nodes[i].full != 1 || nodes[i].wholes != 1 {
			t.Errorf("node %d: %d full snapshots, %d times all consumers", i, nodes[i].full, nodes[i].wholes)
		}
	}
}

// TestTargetThatIsNotKept: the node keeps what it runs, and the reason is shown; it goes on when it is released.
func TestTargetThatIsNotKept(t *testing.T) {
	p := newPlane(t)
	for i := range 5 {
		p.commit(route(fmt.Sprint("r", i)))
	}
	if _, err := p.store.Prune(t.Context(), store.Keep{Newest: 2}, false); err != nil {
		t.Fatal(err)
	}
	other := startPlane(t, p.store)
	if err := other.catalog.SeeHistory(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := other.catalog.VersionAt(t.Context(), other.catalog.Current().Epoch, 1)
	if pruned, ok := errors.AsType[*store.PrunedError](err); !ok || pruned.Oldest != 4 {
		t.Fatalf("revision 1: %v", err)
	}
	other.fleet.Aim("n1", target(other, 1))
	n := &node{t: t, id: "n1"}
	n.connect(other, token)
	defer n.close()
	waittest.UntilNil(t, "why the target can't be had", func() error {
		list := other.fleet.Nodes()
		if len(list) != 1 || list[0].GetTargetProblem() == "" || list[0].GetTargetRevision() != 1 {
			return fmt.Errorf("%v", list)
		}
		return nil
	})
	other.fleet.Aim("n1", target(other, 4))
	n.follow(4)
	if shown := other.fleet.Nodes()[0]; shown.GetTargetProblem() != "" || shown.GetTargetRevision() != 4 {
		t.Errorf("%v", shown)
	}
	// What is aimed at is of an epoch: of another one it says nothing.
	if err := other.store.BeginEpoch(t.Context(), other.catalog.Current().Epoch); err != nil {
		t.Fatal(err)
	}
	if err := other.catalog.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.answer(n.receive(), streamv1.Result_OUTCOME_APPLIED)
	if n.revision != 5 {
		t.Errorf("of a new epoch it runs %d", n.revision)
	}
}

// TestRefusedTarget is shown, and is not sent again; another one is.
func TestRefusedTarget(t *testing.T) {
	p := newPlane(t)
	for i := range 3 {
		p.commit(route(fmt.Sprint("r", i)))
	}
	n := &node{t: t, id: "n1"}
	n.connect(p, token)
	defer n.close()
	n.follow(3)
	kept := n.config
	p.fleet.Aim("n1", target(p, 1))
	u := n.receive()
	if !u.GetTarget() || !u.GetAllowShrink() || u.GetBaseRevision() != 3 {
		t.Errorf("to an older one: %v", u)
	}
	n.config, n.revision = kept, 3 // as nodes of an earlier build refuse what is older
	n.answer(u, streamv1.Result_OUTCOME_REJECTED,
		&streamv1.Problem{Reason: "revision 1 is older than 3, which the node runs"})
	waittest.UntilNil(t, "the refusal", func() error {
		if v := p.fleet.Nodes()[0]; v.GetRefuses().GetRevision() != 1 || v.GetRevision() != 3 {
			return fmt.Errorf("%v", v)
		}
		return nil
	})
	p.fleet.Aim("n1", target(p, 2))
	if u := n.receive(); u.GetRevision() != 2 {
		t.Errorf("got %d", u.GetRevision())
	}
}

// TestRefusedTargetIsNoRefusalOfTheFleet: a node that refuses an older target, and runs what everybody runs, is not
// told that others run what it refuses; when it is released, it refuses nothing.
func TestRefusedTargetIsNoRefusalOfTheFleet(t *testing.T) {
	p := newPlane(t)
	for i := range 3 {
		p.commit(route(fmt.Sprint("r", i)))
	}
	var nodes []*node
	for i := range 3 {
		n := &node{t: t, id: fmt.Sprint("n", i)}
		n.connect(p, token)
		defer n.close()
		n.follow(3)
		nodes = append(nodes, n)
	}
	waittest.UntilNil(t, "all to run revision 3", func() error {
		for _, v := range p.fleet.Nodes() {
			if v.GetRevision() != 3 {
				return fmt.Errorf("%v", v)
			}
		}
		return nil
	})
	n := nodes[0]
	late := time.AfterFunc(10*time.Second, n.close) // which ends its wait
	defer late.Stop()
	told := func() *streamv1.FleetStanding {
		t.Helper()
		for {
			m, err := n.stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if s := m.GetStanding(); s != nil {
				return s
			}
		}
	}
	p.fleet.Aim(n.id, target(p, 1))
	u := n.receive()
	n.answer(u, streamv1.Result_OUTCOME_REJECTED, &streamv1.Problem{Reason: "no"})
	n.send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Report{Report: &streamv1.Report{}}})
	if s := told(); s.GetRevision() != 1 || s.GetOthersRun() {
		t.Errorf("while it is aimed it is told %v", s)
	}
	p.fleet.Release(n.id)
	if s := told(); s.GetRevision() != 1 || s.GetEpoch() != u.GetEpoch() || s.GetOthersRun() {
		t.Errorf("released, it is told %v", s)
	}
	if v := p.fleet.Nodes()[0]; v.GetRefuses() != nil || v.GetLastRejection().GetRevision() != 1 {
		t.Errorf("it is shown as %v", v)
	}
	v := p.commit(route("r4"))
	n.config, n.revision = nodes[1].config, 3
	n.follow(v.Revision)
}
