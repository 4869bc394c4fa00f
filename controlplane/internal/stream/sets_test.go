package stream

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

func consumer(name string) config.Edit {
	return config.Edit{Kind: config.Consumer, Put: &configv1.Consumer{Name: name, Groups: []string{"g"}}}
}

// taker is a node that takes consumers apart from the configuration.
type taker struct {
	node
	set      *config.Config // consumers only
	of       place
	bytes    int // of the last update
	setParts int
	wholes   int
}

// meet opens a stream that says what the node has.
func (n *taker) meet(p *plane) {
	n.t.Helper()
	s := &streamv1.SetState{Kind: streamv1.Kind_KIND_CONSUMER, Epoch: n.of.epoch, Revision: n.of.revision}
	if n.set != nil {
		hash := n.set.Hash()
		s.Hash = hash[:]
	}
	n.connectAs(p, token, &streamv1.Hello{Sets: []*streamv1.SetState{s}})
}

// until answers all that comes until the node runs a revision with its consumers, or fails.
func (n *taker) until(v *streamv1.SetState, revision uint32) {
	n.t.Helper()
	for n.revision != revision || n.set == nil || string(hashOf(n.set)) != string(v.GetHash()) {
		m, err := n.stream.Recv()
		if err != nil {
			n.t.Fatal(err)
		}
		switch {
		case m.GetSet() != nil:
			n.takeSet(m.GetSet())
		case m.GetUpdate() != nil:
			n.takeUpdate(m.GetUpdate())
		}
	}
}

func hashOf(c *config.Config) []byte { h := c.Hash(); return h[:] }

func (n *taker) takeSet(u *streamv1.SetUpdate) {
	n.t.Helper()
	if u.GetChunk() == 1 {
		n.bytes, n.setParts = 0, 0
		if len(u.GetBaseHash()) == 0 {
			n.set = config.Empty()
			n.wholes++
		} else if string(hashOf(n.set)) != string(u.GetBaseHash()) {
			n.t.Fatalf("a delta from another set than the node has")
		}
	}
	n.bytes += proto.Size(u)
	n.setParts++
	var gone []*streamv1.ResourceRef
	for _, id := range u.GetRemovals() {
		gone = append(gone, &streamv1.ResourceRef{Kind: u.GetKind(), Id: id})
	}
	next, err := n.set.WithEntries(n.decode(u.GetUpserts()), gone)
	if err != nil {
		n.t.Fatal(err)
	}
	n.set = next
	if u.GetChunk() < u.GetChunks() {
		return
	}
	if string(hashOf(n.set)) != string(u.GetHash()) {
		n.t.Fatalf("consumers of revision %d have another hash", u.GetRevision())
	}
	n.of = place{epoch: u.GetEpoch(), revision: u.GetRevision()}
	n.answerSet(u, streamv1.Result_OUTCOME_APPLIED)
}

func (n *taker) answerSet(u *streamv1.SetUpdate, o streamv1.Result_Outcome, problems ...*streamv1.Problem) {
	n.t.Helper()
	n.send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Result{Result: &streamv1.Result{
		Outcome: o, Set: u.GetKind(), Problems: problems}}})
}

// takeUpdate takes a configuration in one chunk.
func (n *taker) takeUpdate(u *streamv1.Update) {
	n.t.Helper()
	base := n.config
	if u.GetBaseRevision() == 0 {
		base = config.Empty()
		n.full++
	}
	next, err := base.WithEntries(n.decode(u.GetUpserts()), u.GetRemovals())
	if err != nil {
		n.t.Fatal(err)
	}
	if string(hashOf(next)) != string(u.GetHash()) || next.Len(config.Consumer) != 0 || len(u.GetApart()) != 1 {
		n.t.Fatalf("revision %d has another hash, or consumers, or does not say what is apart: %v", u.GetRevision(),
			u.GetApart())
	}
	n.config, n.revision, n.epoch = next, u.GetRevision(), u.GetEpoch()
	n.answer(u, streamv1.Result_OUTCOME_APPLIED)
}

// setAt is what a node says that has the consumers of the newest revision.
func (p *plane) setAt() *streamv1.SetState {
	hash := p.catalog.Current().Config.HashOf(config.Consumer)
	return &streamv1.SetState{Hash: hash[:]}
}

// TestConsumersTravelApart: a node gets all of them in chunks, and then a change as a delta of its size, also when it
// comes back after many revisions and to another control plane. A node that lost them gets all, and the configuration
// by itself.
func TestConsumersTravelApart(t *testing.T) {
	p := newPlane(t)
	var edits []config.Edit
	for i := range 12_000 {
		edits = append(edits, consumer(fmt.Sprint("c", i)))
	}
	v := p.commit(append(edits, route("r"))...)
	n := &taker{node: node{t: t, id: "n1"}}
	n.meet(p)
	n.until(p.setAt(), v.Revision)
	if n.setParts < 2 || n.wholes != 1 || n.set.Len(config.Consumer) != 12_000 {
		t.Errorf("%d chunks, %d times all, %d consumers", n.setParts, n.wholes, n.set.Len(config.Consumer))
	}
	small := func(what string, wholes int) {
		t.Helper()
		if n.bytes > 600 || n.wholes != wholes || n.full != 1 {
			t.Errorf("%s: %d bytes, %d times all, %d times the whole configuration", what, n.bytes, n.wholes, n.full)
		}
	}
	v = p.commit(consumer("new"))
	n.until(p.setAt(), v.Revision)
	small("a new one", 1)
	v = p.commit(config.Edit{Kind: config.Consumer, Delete: "c7"})
	n.until(p.setAt(), v.Revision)
	small("a revoked one", 1)
	if n.bytes > 250 {
		t.Errorf("a revoked one costs %d bytes", n.bytes)
	}
	n.close()
	for i := range keptForNodes {
		p.commit(route(fmt.Sprint("r", i%3, "-", i)))
	}
	v = p.commit(consumer("later"))
	other := startPlane(t, p.store) // which has none of the revisions between
	n.meet(other)
	n.until(other.setAt(), v.Revision)
	small("to another control plane, after many revisions", 1)
	n.close()

	// One that has lost them gets all; a fresh one gets those of a moment ago, which are there, and what has changed.
	n.set = nil
	n.meet(other)
	n.until(other.setAt(), v.Revision)
	if n.wholes != 2 || n.full != 1 {
		t.Errorf("%d times all, %d times the whole configuration", n.wholes, n.full)
	}
	n.close()
	v = other.commit(consumer("last"))
	fresh := &taker{node: node{t: t, id: "n2"}}
	fresh.meet(other)
	defer fresh.close()
	fresh.until(other.setAt(), v.Revision)
	if fresh.bytes > 600 || fresh.wholes != 1 {
		t.Errorf("a fresh node: %d times all, and then %d bytes", fresh.wholes, fresh.bytes)
	}
}

// keptForNodes is more revisions than are kept in memory.
const keptForNodes = 70

// TestNodesOfAnEarlierBuildGetConsumers with the configuration, as they did.
func TestNodesOfAnEarlierBuildGetConsumers(t *testing.T) {
	p := newPlane(t)
	p.commit(route("r"), consumer("a"))
	n := &node{t: t, id: "n1"}
	n.connect(p, token)
	defer n.close()
	n.follow(1)
	v := p.commit(consumer("b"))
	n.follow(v.Revision)
	if n.config.Hash() != v.Config.Hash() || n.config.Len(config.Consumer) != 2 || n.full != 1 {
		t.Errorf("%d consumers, %d times all", n.config.Len(config.Consumer), n.full)
	}
	p.fleet.Aim("n1", target(p, 1))
	if u := n.receive(); u.GetRevision() != 1 || !u.GetTarget() || n.config.Len(config.Consumer) != 1 {
		t.Errorf("the target is revision 1, it got %d", u.GetRevision())
	}
}

// TestRefusedConsumersAreNotSentAgain, until there are others.
func TestRefusedConsumersAreNotSentAgain(t *testing.T) {
	p := newPlane(t)
	p.commit(consumer("a"))
	n := &taker{node: node{t: t, id: "n1"}}
	n.meet(p)
	defer n.close()
	refused := 0
	for n.revision < 2 {
		m, err := n.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case m.GetSet() != nil:
			refused++
			n.answerSet(m.GetSet(), streamv1.Result_OUTCOME_REJECTED, &streamv1.Problem{Reason: "no"})
		case m.GetUpdate() != nil:
			n.takeUpdate(m.GetUpdate())
			if n.revision == 1 {
				p.commit(route("r"))
			}
		}
	}
	if refused != 1 {
		t.Errorf("sent %d times", refused)
	}
	v := p.commit(consumer("b"))
	n.until(p.setAt(), v.Revision)
}

// TestUnchangedConsumersNeedNoHistory: one revoked consumer is a delta, also where the revision that the set of a node
// was sent for is long pruned: the node has stayed, or comes to a control plane just before, or after, the change.
func TestUnchangedConsumersNeedNoHistory(t *testing.T) {
	for _, what := range []string{"it stays", "it comes before", "it comes after"} {
		t.Run(what, func(t *testing.T) {
			p := newPlane(t)
			v := p.commit(route("r"), consumer("a"), consumer("b"), consumer("c"))
			n := &taker{node: node{t: t, id: "n1"}}
			n.meet(p)
			defer func() { n.close() }()
			for i := range keptForNodes {
				n.until(p.setAt(), v.Revision)
				v = p.commit(route(fmt.Sprint("r", i)))
			}
			n.until(p.setAt(), v.Revision)
			if n.of.revision != 1 {
				t.Fatalf("it was sent the set of revision %d", n.of.revision)
			}
			revoke := config.Edit{Kind: config.Consumer, Delete: "b"}
			if what == "it comes after" {
				n.close()
				p.commit(revoke)
			}
			if _, err := p.store.Prune(t.Context(), store.Keep{Newest: 2}, false); err != nil {
				t.Fatal(err)
			}
			if err := p.catalog.SeeHistory(t.Context()); err != nil {
				t.Fatal(err)
			}
			if what != "it stays" {
				n.close()
				p = startPlane(t, p.store)
				n.meet(p)
			}
			if what != "it comes after" {
				p.commit(revoke)
			}
			n.until(p.setAt(), v.Revision+1)
			if n.wholes != 1 || n.full != 1 {
				t.Errorf("%d times all consumers, %d times the whole configuration", n.wholes, n.full)
			}
		})
	}
}

// TestConsumersGoFirst: a fresh node that gets all consumers of a moment ago, which are there, gets the configuration
// after what has changed since, so that it never serves with a consumer that was revoked before.
func TestConsumersGoFirst(t *testing.T) {
	p := newPlane(t)
	var edits []config.Edit
	for i := range 200 {
		edits = append(edits, consumer(fmt.Sprint("c", i)))
	}
	v := p.commit(edits...)
	first := &taker{node: node{t: t, id: "n1"}}
	first.meet(p)
	first.until(p.setAt(), v.Revision) // so that the set is there
	first.close()
	p.commit(route("r"), config.Edit{Kind: config.Consumer, Delete: "c7"})
	n := &taker{node: node{t: t, id: "n2"}}
	n.meet(p)
	defer n.close()
	var got []string
	for n.revision == 0 {
		m, err := n.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case m.GetSet() != nil:
			got = append(got, fmt.Sprint("consumers of ", m.GetSet().GetRevision()))
			n.takeSet(m.GetSet())
		case m.GetUpdate() != nil:
			got = append(got, fmt.Sprint("configuration of ", m.GetUpdate().GetRevision()))
			n.takeUpdate(m.GetUpdate())
		}
	}
	if !slices.Equal(got, []string{"consumers of 1", "consumers of 2", "configuration of 2"}) {
		t.Errorf("it got %q", got)
	}
}

// TestRefusedNeighbourIsNotSentAgain: a node that refuses all consumers of a moment ago, which are there, gets those of
// its target, and nothing more where it refuses these too.
func TestRefusedNeighbourIsNotSentAgain(t *testing.T) {
	for _, takes := range []bool{true, false} {
		t.Run(fmt.Sprint("takes those of its target: ", takes), func(t *testing.T) {
			p := newPlane(t)
			var edits []config.Edit
			for i := range 200 {
				edits = append(edits, consumer(fmt.Sprint("c", i)))
			}
			v := p.commit(edits...)
			first := &taker{node: node{t: t, id: "n1"}}
			first.meet(p)
			first.until(p.setAt(), v.Revision) // so that the set is there
			first.close()
			p.commit(config.Edit{Kind: config.Consumer, Delete: "c7"})
			n := &taker{node: node{t: t, id: "n2"}}
			n.meet(p)
			defer n.close()
			var sent []uint32
			for n.revision < 3 && len(sent) < 5 {
				m, err := n.stream.Recv()
				if err != nil {
					t.Fatal(err)
				}
				if m.GetUpdate() != nil {
					n.takeUpdate(m.GetUpdate())
					continue
				}
				sent = append(sent, m.GetSet().GetRevision())
				if takes && m.GetSet().GetRevision() == 2 {
					n.takeSet(m.GetSet())
				} else {
					n.answerSet(m.GetSet(), streamv1.Result_OUTCOME_REJECTED, &streamv1.Problem{Reason: "no"})
				}
				if len(sent) == 2 {
					p.commit(route("last"))
				}
			}
			if !slices.Equal(sent, []uint32{1, 2}) {
				t.Errorf("it was sent the sets of %d", sent)
			}
		})
	}
}
