package stream

import (
	"fmt"
	"slices"
	"testing"
	"time"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

func TestRejection(t *testing.T) {
	p := newPlane(t)
	v := p.commit(route("a"))
	n := &node{t: t, id: "n1"}
	n.connect(p, token)
	defer n.close()
	n.follow(v.Revision)
	kept, keptRevision := n.config, n.revision
	p.commit(route("bad"))
	u := n.receive()
	n.config, n.revision = kept, keptRevision
	n.answer(u, streamv1.Result_OUTCOME_REJECTED,
		&streamv1.Problem{Kind: "route", Name: "bad", Field: "path", Reason: "no"})
	waittest.UntilNil(t, "the rejection", func() error {
		r := p.fleet.Nodes()[0].GetLastRejection()
		if r.GetRevision() != u.GetRevision() || r.GetProblems()[0].GetName() != "bad" {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	v = p.commit(route("good"))
	n.follow(v.Revision) // a delta from what the node kept
	if n.config.Hash() != v.Config.Hash() {
		t.Error("another content")
	}
}

// TestStanding has nodes refuse a revision: each is told whether most of the fleet runs it, and again when that
// changes.
func TestStanding(t *testing.T) {
	p := newPlane(t)
	v := p.commit(route("a"))
	nodes := make([]*node, 3)
	for i := range nodes {
		nodes[i] = &node{t: t, id: fmt.Sprint("n", i)}
		nodes[i].connect(p, token)
		defer nodes[i].close()
		nodes[i].follow(v.Revision)
	}
	p.commit(route("bad"))
	refuse := func(n *node) {
		t.Helper()
		kept, keptRevision := n.config, n.revision
		u := n.receive()
		n.config, n.revision = kept, keptRevision
		n.answer(u, streamv1.Result_OUTCOME_REJECTED, &streamv1.Problem{Reason: "no"})
		waittest.Until(t, "the refusal", func() bool {
			all := p.fleet.Nodes()
			i := slices.IndexFunc(all, func(v *adminv1.Node) bool { return v.GetId() == n.id })
			return all[i].GetRefuses().GetRevision() == u.GetRevision()
		})
	}
	// told reports, as nodes do every two seconds, until the node is told something.
	told := func(n *node, want bool) {
		t.Helper()
		n.send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Report{Report: &streamv1.Report{}}})
		late := time.AfterFunc(waittest.Limit, n.close)
		defer late.Stop()
		m, err := n.stream.Recv()
		for err == nil && m.GetDirective() != nil {
			m, err = n.stream.Recv()
		}
		if s := m.GetStanding(); err != nil || s.GetRevision() != v.Revision+1 || s.GetOthersRun() != want {
			t.Fatalf("%s was told %v, %v; want %v", n.id, m, err, want)
		}
	}
	refuse(nodes[0])
	refuse(nodes[1])
	told(nodes[0], false)
	u := nodes[2].receive()
	nodes[2].answer(u, streamv1.Result_OUTCOME_APPLIED)
	waittest.Until(t, "the third node", func() bool { return p.fleet.Nodes()[2].GetRevision() == u.GetRevision() })
	told(nodes[1], false) // most refuse it
	nodes[1].close()
	waittest.Until(t, "the second node to be gone", func() bool { return !p.fleet.Nodes()[1].GetConnected() })
	// Two run it then and one refuses it, since one that has gone does not count.
	more := &node{t: t, id: "more"}
	more.connect(p, token)
	defer more.close()
	more.follow(v.Revision + 1)
	waittest.Until(t, "another node", func() bool {
		return len(p.fleet.Nodes()) == len(nodes)+1 && p.fleet.Nodes()[0].GetRevision() == v.Revision+1
	})
	told(nodes[0], true)
	v2 := p.commit(config.Edit{Kind: config.Route, Delete: "bad"})
	nodes[0].answer(nodes[0].receive(), streamv1.Result_OUTCOME_APPLIED)
	waittest.Until(t, "the first node to run what it is told", func() bool {
		for _, n := range p.fleet.Nodes() {
			if n.GetId() == "n0" {
				return n.GetRefuses() == nil && n.GetRevision() == v2.Revision
			}
		}
		return false
	})
}
