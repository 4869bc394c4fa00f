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

// Choice is what a strategy is told of a request. It is passed by value: a pointer to it would have to live on the
// heap.
type Choice struct {
	// Tried is what is not chosen again; nil: nothing.
	Tried *Tried
	// from is the first of Tried that counts.
	from int
}

// excludes reports whether a target is not to be chosen.
func (c *Choice) excludes(s *State) bool {
	for k := c.from; k < c.Tried.Len(); k++ {
		if c.Tried.at(k) == s {
			return true
		}
	}
	return false
}

// allows reports whether a target may be chosen.
func (c *Choice) allows(s *State) bool {
	return s.Healthy() && (c.Tried == nil || !c.excludes(s))
}

// Pick returns the index of a healthy target that the request has not been sent to; where it has been sent to all of
// them, of another than the last one; where that is the only one, its index again. -1: none is healthy.
func Pick(b Balancer, c Choice) int {
	i := b.Pick(c)
	if i >= 0 || c.Tried.Len() == 0 {
		return i
	}
	c.from = c.Tried.Len() - 1
	if i = b.Pick(c); i >= 0 {
		return i
	}
	c.from++
	return b.Pick(c)
}
