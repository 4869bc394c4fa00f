package follow

import (
	"cmp"
	"slices"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/runtime"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// restore starts the node from the last good snapshot.
func (f *Follower) restore() {
	f.unsaved.consumers = true // without what they belong to, those on disk are of no use, and may be old
	records, cut, err := f.disk.snapshot.load()
	if err != nil {
		f.log.Error("last good snapshot", "error", err.Error())
	}
	if cut > 0 {
		f.log.Warn("last good snapshot: its end was torn and is cut off", "bytes", cut)
	}
	if len(records) == 0 {
		return
	}
	s, err := replay(records)
	if err != nil {
		f.log.Error("last good snapshot: going on with what fits together", "error", err.Error())
		f.unsaved.snapshot = true
	}
	if f.disk.snapshot.outdated || slices.ContainsFunc(records, hasApart) {
		f.unsaved.snapshot = true // what is not encrypted, and values of consumers that go later, would stay in it
	}
	if s.revision == 0 {
		return
	}
	s = f.restoreConsumers(s)
	f.node.ApplyEndpoints(s.found())
	f.node.ApplyConsumers(s.consumers)
	problems := f.node.Apply(runtime.Version{Epoch: s.epoch, Revision: s.revision, Config: s.config})
	if len(problems) > 0 {
		f.log.Error("last good snapshot can't be applied", "revision", s.revision, "problems", describe(problems))
		f.node.ApplyEndpoints(nil)
		f.node.ApplyConsumers(&consumer.Set{})
		f.unsaved.consumers = true
		return
	}
	f.state = s
	f.judge()
	f.log.Info("started from the last good snapshot", "revision", s.revision, "consumers", s.consumers.Len())
}

// restoreConsumers returns the state with the last good consumers, as far as they fit together. Those that a snapshot
// of an earlier build has stay where there are no others, or older ones: then that build ran after this one.
func (f *Follower) restoreConsumers(s *state) *state {
	var building *building
	var wrong error
	there, old := false, false
	own := s.consumersOf
	cut, err := f.disk.consumers.each(func(m *streamv1.StreamResponse) {
		if u := m.GetSet(); len(u.GetBaseHash()) == 0 && (place{u.GetEpoch(), u.GetRevision()}).before(own) {
			old = true
		}
		if wrong != nil || old {
			return
		}
		next, b, err := s.takeSet(building, m.GetSet())
		if building = b; err != nil {
			wrong = err
		} else if next != nil {
			s, building, there = next, nil, true
		}
	})
	if err = cmp.Or(err, wrong); err != nil {
		f.log.Error("last good consumers: going on with what fits together", "error", err.Error())
	}
	if cut > 0 {
		f.log.Warn("last good consumers: their end was torn and is cut off", "bytes", cut)
	}
	f.unsaved.consumers = wrong != nil || !there || f.disk.consumers.outdated
	return s
}
