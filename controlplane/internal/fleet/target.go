package fleet

// Target is the revision that a node is to run.
type Target struct {
	// Epoch is that of the store: of another one it says nothing.
	Epoch string
	// Revision is any one that the history has.
	Revision uint32
}

// Aim makes a revision the target of a node, connected or not, until Release: what is committed meanwhile does not
// reach it. It is kept in memory, also of a node that has been forgotten. Nothing of the API leads here yet: it is for
// rollouts, and until there are some only tests call it.
func (f *Fleet) Aim(id string, t Target) { f.aim(id, &t) }

// Release makes the newest revision the target of a node again, which is that of all nodes that nobody aims.
func (f *Fleet) Release(id string) { f.aim(id, nil) }

func (f *Fleet) aim(id string, t *Target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.targets[id]
	switch {
	case t == nil && old == nil, t != nil && old != nil && *t == *old:
		return
	case t == nil:
		delete(f.targets, id)
	default:
		f.targets[id] = t
	}
	if n := f.nodes[id]; n != nil {
		f.showTarget(n)
		if n.session != nil {
			close(n.session.retargeted)
			n.session.retargeted = make(chan struct{})
		}
	}
}

// showTarget brings the view of a node up to date; the caller holds mu.
func (f *Fleet) showTarget(n *node) {
	n.view.TargetRevision, n.view.TargetProblem = 0, ""
	if t := f.targets[n.view.GetId()]; t != nil {
		n.view.TargetRevision = t.Revision
	}
}

// Target returns what the session's node is to run; aimed is false where that is the newest revision.
func (s *Session) Target() (t Target, aimed bool) {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	if t := s.fleet.targets[s.id]; t != nil {
		return *t, true
	}
	return Target{}, false
}

// Retargeted returns a channel that is closed when the node's target changes. Get it, then look, then wait.
func (s *Session) Retargeted() <-chan struct{} {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	return s.retargeted
}

// TargetProblem says why the node's target can't be had; nil: it can.
func (s *Session) TargetProblem(of Target, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	n, t := s.fleet.nodes[s.id], s.fleet.targets[s.id]
	if n != nil && n.session == s && t != nil && *t == of {
		n.view.TargetProblem = text
	}
}
