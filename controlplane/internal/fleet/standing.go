package fleet

// standing is how a connected node stands to what it was told to run last. The zero value is a node that does not
// count.
type standing struct {
	epoch    string // of what it runs, or refuses
	revision uint32 // that it runs; 0 where it refuses one
	refuses  bool
}

// tally counts the connected nodes of an epoch.
type tally struct {
	refuse int
	run    map[uint32]int // by revision
}

// stand counts a node as it is now; the caller holds mu. It is called after each change of a node: every refusing node
// asks every two seconds, and nobody could go through all nodes each time.
func (f *Fleet) stand(n *node) {
	now := standing{}
	switch {
	case n.session == nil:
	case n.view.GetRefuses() != nil:
		now = standing{epoch: n.epoch, refuses: true}
	default:
		now = standing{epoch: n.epoch, revision: n.view.GetRevision()}
	}
	if now == n.standing {
		return
	}
	f.tally(n.standing, -1)
	f.tally(now, 1)
	n.standing = now
}

// tally counts one more node, or one less, that stands so; the caller holds mu.
func (f *Fleet) tally(s standing, by int) {
	if s == (standing{}) {
		return
	}
	t := f.tallies[s.epoch]
	if t == nil {
		t = &tally{run: map[uint32]int{}}
		f.tallies[s.epoch] = t
	}
	if s.refuses {
		t.refuse += by
	} else if t.run[s.revision] += by; t.run[s.revision] == 0 {
		delete(t.run, s.revision)
	}
	if t.refuse == 0 && len(t.run) == 0 {
		delete(f.tallies, s.epoch)
	}
}

// OthersRun reports whether more of the connected nodes run what the session's node refuses, or a later revision,
// than refuse it. A node that stands with most of the fleet is no worse than the rest, whatever it refuses; and so is
// one that is to run what others are not.
func (s *Session) OthersRun() bool {
	f := s.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	own := f.nodes[s.id]
	if own == nil || own.session != s || own.view.GetRefuses() == nil {
		return false
	}
	if f.targets[s.id] != nil {
		return false
	}
	t := f.tallies[own.epoch]
	run := 0
	for revision, n := range t.run {
		if revision >= own.view.GetRefuses().GetRevision() {
			run += n
		}
	}
	return run > t.refuse
}

// Withdrawn says that the session's node, which refused something and runs a revision of an epoch, is to run just that:
// what it refused does not count any more.
func (s *Session) Withdrawn(epoch string) {
	f := s.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[s.id]; n != nil && n.session == s {
		n.view.Refuses, n.epoch = nil, epoch
		f.stand(n)
	}
}
