package match

import (
	"maps"
)

// builder derives a table. Nodes and buckets that it made itself are changed in place, all others are copied first.
// What it made names it as its owner for as long as it is part of any table, so that a builder that has finished must
// not keep anything.
type builder struct {
	table    *Table
	ownExact map[*paths]bool
	changed  []*bucket
}

func (b *builder) insert(r *Rule) {
	b.table.rules[r.ID] = r
	if len(r.hosts) > 0 {
		b.table.hosts++
	}
	s := b.paths(r)
	switch r.form {
	case Exact:
		m := b.exact(s)
		k := b.bucket(m[r.path])
		m[r.path] = k
		k.add(b, r)
		return
	case Regex:
		s.regex = b.insertLiteral(s.regex, r.literal, r)
		return
	}
	s.root = b.node(s.root)
	n := s.root
	n.offer(r)
	for _, s := range r.segments {
		if s.param {
			n.param = b.node(n.param)
			n = n.param
		} else {
			child := b.node(n.literals[s.literal])
			if n.literals == nil {
				n.literals = make(map[string]*node, 1)
			}
			n.literals[s.literal] = child
			n = child
		}
		n.offer(r)
	}
	place := n.place(r.form)
	*place = b.bucket(*place)
	(*place).add(b, r)
}

func (n *node) offer(r *Rule) {
	if !n.stale && (n.top == nil || Compare(r, n.top) < 0) {
		n.top = r
	}
}

func (n *node) place(f Form) **bucket {
	if f == Prefix {
		return &n.below
	}
	return &n.here
}

// paths returns where a rule is found.
func (b *builder) paths(r *Rule) *paths {
	if r.fold {
		return &b.table.fold
	}
	return &b.table.plain
}

func (b *builder) exact(s *paths) map[string]*bucket {
	if !b.ownExact[s] {
		if b.ownExact == nil {
			b.ownExact = map[*paths]bool{}
		}
		b.ownExact[s] = true
		s.exact = maps.Clone(s.exact)
		if s.exact == nil {
			s.exact = map[string]*bucket{}
		}
	}
	return s.exact
}

// node returns a node that may be changed: n itself, a copy of it, or a new one.
func (b *builder) node(n *node) *node {
	switch {
	case n == nil:
		return &node{owner: b}
	case n.owner == b:
		return n
	}
	c := *n
	c.owner = b
	c.literals = maps.Clone(n.literals)
	return &c
}

func (b *builder) remove(id string) {
	r := b.table.rules[id]
	if r == nil {
		return
	}
	delete(b.table.rules, id)
	if len(r.hosts) > 0 {
		b.table.hosts--
	}
	s := b.paths(r)
	switch r.form {
	case Exact:
		m := b.exact(s)
		k := b.bucket(m[r.path])
		k.drop(b, r)
		if k.empty() {
			delete(m, r.path)
		} else {
			m[r.path] = k
		}
	case Regex:
		s.regex = b.removeLiteral(s.regex, r.literal, r)
	default:
		s.root = b.removeBelow(s.root, r, r.segments)
	}
}

// removeBelow takes r out of the subtree of n and returns what is left of it, nil when nothing is.
func (b *builder) removeBelow(n *node, r *Rule, segments []segment) *node {
	n = b.node(n)
	switch {
	case len(segments) == 0:
		place := n.place(r.form)
		*place = b.bucket(*place)
		(*place).drop(b, r)
		if (*place).empty() {
			*place = nil
		}
	case segments[0].param:
		n.param = b.removeBelow(n.param, r, segments[1:])
		n.stale = n.stale || n.param != nil && n.param.stale
	default:
		s := segments[0].literal
		if child := b.removeBelow(n.literals[s], r, segments[1:]); child != nil {
			n.literals[s] = child
			n.stale = n.stale || child.stale
		} else {
			delete(n.literals, s)
		}
	}
	if n.here == nil && n.below == nil && n.param == nil && len(n.literals) == 0 {
		return nil
	}
	n.stale = n.stale || n.top == r
	return n
}

// settle finds the best rules of nodes that have lost theirs; those above them are stale too.
func (n *node) settle() {
	if n == nil || !n.stale {
		return
	}
	for _, c := range n.literals {
		c.settle()
	}
	n.param.settle()
	n.top, n.stale = n.findTop(), false
}

func (n *node) findTop() *Rule {
	var top *Rule
	offer := func(r *Rule) {
		if r != nil && (top == nil || Compare(r, top) < 0) {
			top = r
		}
	}
	for _, k := range []*bucket{n.here, n.below} {
		if k != nil {
			offer(k.top)
		}
	}
	for _, c := range n.literals {
		offer(c.top)
	}
	if n.param != nil {
		offer(n.param.top)
	}
	return top
}

// finish brings what has changed in order, and lets go of everything.
func (b *builder) finish() {
	b.table.folds = !b.table.fold.empty()
	for _, k := range b.changed {
		k.settle()
	}
	for _, s := range []*paths{&b.table.plain, &b.table.fold} {
		s.root.settle()
		s.regex.settle()
	}
	*b = builder{}
}
