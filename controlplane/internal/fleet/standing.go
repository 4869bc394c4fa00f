package fleet

// OthersRun reports whether more of the connected nodes run what the session's node refuses, or a later revision,
// than refuse it. A node that stands with most of the fleet is no worse than the rest, whatever it refuses.
func (s *Session) OthersRun() bool {
	f := s.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	own := f.nodes[s.id]
	if own == nil || own.session != s || own.view.GetRefuses() == nil {
		return false
	}
	revision := own.view.GetRefuses().GetRevision()
	run, refuse := 0, 0
	for _, n := range f.nodes {
		switch {
		case n.session == nil || n.epoch != own.epoch:
		case n.view.GetRefuses() != nil:
			refuse++
		case n.view.GetRevision() >= revision:
			run++
		}
	}
	return run > refuse
}
