package balance

// Tried is the set of endpoints that one request has been sent to, or tried to be, in their order. The zero value is
// empty, and so is nil. One goroutine owns it. It allocates only beyond eight endpoints.
type Tried struct {
	n     int
	first [8]*State
	more  []*State
}

// Add adds an endpoint. It may be there already: it is the last one then.
func (t *Tried) Add(s *State) {
	if t.n < len(t.first) {
		t.first[t.n] = s
	} else {
		t.more = append(t.more, s)
	}
	t.n++
}

// Len returns how often Add was called.
func (t *Tried) Len() int {
	if t == nil {
		return 0
	}
	return t.n
}

// Has reports whether an endpoint is in the set.
func (t *Tried) Has(s *State) bool { return (&Choice{Tried: t}).excludes(s) }

// Clone returns a set of its own with the same endpoints.
func (t *Tried) Clone() Tried {
	clone := *t
	clone.more = append([]*State(nil), t.more...)
	return clone
}

func (t *Tried) at(k int) *State {
	if k < len(t.first) {
		return t.first[k]
	}
	return t.more[k-len(t.first)]
}
