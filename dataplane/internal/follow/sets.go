package follow

import (
	"bytes"
	"fmt"
	"iter"
	"slices"

	"gateway.internal/dataplane/internal/consumer"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/chunk"
	"gateway.internal/shared/config"
)

// apartKinds are the kinds that this build takes apart from the configuration.
func apartKinds() []streamv1.Kind {
	var kinds []streamv1.Kind
	for _, k := range config.Apart() {
		kinds = append(kinds, k.Proto())
	}
	return kinds
}

func isApart(k streamv1.Kind) bool { return slices.Contains(apartKinds(), k) }

// hasApart reports whether a record on disk may have what is apart: those of earlier builds do.
func hasApart(m *streamv1.StreamResponse) bool {
	return m.GetUpdate() != nil && len(m.GetUpdate().GetApart()) == 0
}

// part parts an update of a control plane that does not send consumers apart into the configuration and the consumers.
// One that does comes back as it is, without any.
func part(u *streamv1.Update) (together, apart *streamv1.Update, err error) {
	if len(u.GetApart()) > 0 {
		for _, k := range apartKinds() {
			if !slices.Contains(u.GetApart(), k) {
				return nil, nil, refuse("the update has no place for a %s: it is neither apart nor together", k)
			}
		}
		return u, nil, nil
	}
	together, apart = &streamv1.Update{}, &streamv1.Update{}
	for _, r := range u.GetUpserts() {
		to := together
		if isApart(r.GetKind()) {
			to = apart
		}
		to.Upserts = append(to.Upserts, r)
	}
	for _, r := range u.GetRemovals() {
		to := together
		if isApart(r.GetKind()) {
			to = apart
		}
		to.Removals = append(to.Removals, r)
	}
	return together, apart, nil
}

// takeConsumers takes the consumers that came with the configuration, of a revision.
func (s *state) takeConsumers(u, of *streamv1.Update, full bool) error {
	base := s.consumers
	if full {
		base = &consumer.Set{}
	}
	d := base.Draft()
	for _, r := range u.GetRemovals() {
		if !d.Remove(r.GetId()) {
			return fmt.Errorf("remove consumer %s: it is not there", r.GetId())
		}
	}
	for _, r := range u.GetUpserts() {
		if err := d.Put(r); err != nil {
			return err
		}
	}
	if next := d.Set(); next.Hash() != s.consumers.Hash() {
		s.consumers = next
	}
	s.consumersOf = place{of.GetEpoch(), of.GetRevision()}
	return nil
}

// hash is what an update says that it leads to: of a control plane that does not send consumers apart that of all.
func (s *state) hash(u *streamv1.Update) [32]byte {
	if len(u.GetApart()) > 0 {
		return s.config.Hash()
	}
	all := s.config.Multiset()
	all.Join(s.consumers.Multiset())
	return all.Sum()
}

// onDisk returns an update as it is kept: without what is apart, which has a file of its own.
func (s *state) onDisk(u *streamv1.Update) *streamv1.StreamResponse {
	if len(u.GetApart()) == 0 {
		together, _, _ := part(u) // it was parted before
		hash := s.config.Hash()
		u = &streamv1.Update{Epoch: u.GetEpoch(), Revision: u.GetRevision(), Hash: hash[:],
			BaseRevision: u.GetBaseRevision(), RollbackOf: u.GetRollbackOf(), AllowShrink: u.GetAllowShrink(),
			CommittedAt: u.GetCommittedAt(), Chunk: 1, Chunks: 1, Target: u.GetTarget(),
			Upserts: together.GetUpserts(), Removals: together.GetRemovals(), Apart: apartKinds()}
	}
	return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: u}}
}

// building is an update of a set that has not come to its end.
type building struct {
	draft    *consumer.Draft
	problems []*streamv1.Problem        // maxSetProblems at most
	changes  []*streamv1.StreamResponse // its chunks, where it is a delta
}

// maxSetProblems is how much of what is wrong with an update of a set is named.
const maxSetProblems = 10

func (b *building) wrong(p *streamv1.Problem) {
	if len(b.problems) < maxSetProblems {
		b.problems = append(b.problems, p)
	}
}

// takeSet takes a chunk of an update of a set, aside from what the node has. It returns what the node has afterwards
// when it was the last one, and nil otherwise. The error is a *refusal, or errStale for a delta that does not fit.
func (s *state) takeSet(b *building, u *streamv1.SetUpdate) (next *state, at *building, err error) {
	full := len(u.GetBaseHash()) == 0
	if u.GetChunk() <= 1 || b == nil {
		base := &consumer.Set{}
		if !full {
			base = s.consumers
			if hash := base.Hash(); !bytes.Equal(hash[:], u.GetBaseHash()) {
				return nil, nil, stale("the update of consumers starts from another set than the node has")
			}
		}
		b = &building{draft: base.Draft()}
	}
	if !full {
		b.changes = append(b.changes, &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Set{Set: u}})
	}
	if u.GetKind() != config.Consumer.Proto() {
		b.wrong(&streamv1.Problem{Reason: fmt.Sprintf("this build takes no %s by itself", u.GetKind())})
	}
	for _, id := range u.GetRemovals() {
		if !b.draft.Remove(id) {
			return nil, nil, stale("remove consumer %s: it is not there", id)
		}
	}
	for _, r := range u.GetUpserts() {
		if err := b.draft.Put(r); err != nil {
			b.wrong(&streamv1.Problem{Kind: config.Consumer.String(), Name: r.GetId(), Reason: err.Error()})
		}
	}
	if u.GetChunk() < u.GetChunks() {
		return nil, b, nil
	}
	if len(b.problems) > 0 {
		return nil, b, &refusal{b.problems}
	}
	set := b.draft.Set()
	switch hash := set.Hash(); {
	case bytes.Equal(hash[:], u.GetHash()):
	case full:
		return nil, b, refuse("the update of consumers leads to another content than it says")
	default:
		return nil, nil, stale("the update of consumers leads to another content than it says")
	}
	c := *s
	c.consumers, c.consumersOf = set, place{u.GetEpoch(), u.GetRevision()}
	return &c, b, nil
}

// setChunkBytes is how much of consumers is in a record of their file.
const setChunkBytes = 1 << 20

// consumerRecords returns the consumers as they are kept on disk: an update of all of them, in chunks.
func (s *state) consumerRecords() iter.Seq[*streamv1.StreamResponse] {
	return func(yield func(*streamv1.StreamResponse) bool) {
		hash, n := s.consumers.Hash(), uint32(0)
		chunks, runs := chunk.Runs(s.consumers.All(), setChunkBytes, (*consumer.Consumer).Size)
		for run := range runs {
			n++
			u := &streamv1.SetUpdate{Kind: config.Consumer.Proto(), Epoch: s.consumersOf.epoch,
				Revision: s.consumersOf.revision, Hash: hash[:], Chunk: n, Chunks: chunks}
			for _, c := range run {
				u.Upserts = append(u.Upserts, c.Resource())
			}
			if !yield(&streamv1.StreamResponse{Message: &streamv1.StreamResponse_Set{Set: u}}) {
				return
			}
		}
	}
}
