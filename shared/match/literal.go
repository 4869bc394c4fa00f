package match

import (
	"bytes"
	"slices"
	"strings"
)

// literal is a node of the tree in which regexes stand by the text that every path they match begins with. A lookup
// goes down as far as the path leads: its cost is that of the path, and of the regexes whose text the path has.
type literal struct {
	owner *builder   // who may change the node in place
	text  string     // what it adds to the nodes above; empty in the root alone
	first []byte     // the first byte of each of kids' texts
	kids  []*literal // no two begin with the same byte
	here  *bucket    // regexes of exactly this text; nil: none
	top   *Rule      // the best rule in and below this node
	stale bool       // top is not there any more; while a builder is at work
}

// regexes tries the regexes whose text key begins with.
func (m *matcher) regexes(n *literal, key string) {
	for {
		if m.best != nil && Compare(m.best, n.top) < 0 {
			return
		}
		if n.here != nil {
			m.try(n.here, 0)
		}
		if key == "" {
			return
		}
		i := bytes.IndexByte(n.first, key[0])
		if i < 0 {
			return
		}
		if n = n.kids[i]; !strings.HasPrefix(key, n.text) {
			return
		}
		key = key[len(n.text):]
	}
}

// along calls f for the buckets of texts that key begins with.
func (n *literal) along(key string, f func(*bucket)) {
	for n != nil && strings.HasPrefix(key, n.text) {
		if n.here != nil {
			f(n.here)
		}
		key = key[len(n.text):]
		if key == "" {
			return
		}
		i := bytes.IndexByte(n.first, key[0])
		if i < 0 {
			return
		}
		n = n.kids[i]
	}
}

// literal returns a node that may be changed: n itself, a copy of it, or a new one.
func (b *builder) literal(n *literal) *literal {
	switch {
	case n == nil:
		return &literal{owner: b}
	case n.owner == b:
		return n
	}
	c := *n
	c.owner = b
	c.first, c.kids = slices.Clone(n.first), slices.Clone(n.kids)
	return &c
}

// insertLiteral puts r below n, where rest of its text is left, and returns the node that takes n's place.
func (b *builder) insertLiteral(n *literal, rest string, r *Rule) *literal {
	n = b.literal(n)
	if !n.stale && (n.top == nil || Compare(r, n.top) < 0) {
		n.top = r
	}
	if rest == "" {
		n.here = b.bucket(n.here)
		n.here.add(b, r)
		return n
	}
	i := bytes.IndexByte(n.first, rest[0])
	if i < 0 {
		kid := &literal{owner: b, text: rest}
		n.first, n.kids = append(n.first, rest[0]), append(n.kids, b.insertLiteral(kid, "", r))
		return n
	}
	kid := n.kids[i]
	common := 1
	for common < len(rest) && common < len(kid.text) && rest[common] == kid.text[common] {
		common++
	}
	if common < len(kid.text) {
		lower := b.literal(kid)
		above := &literal{
			owner: b, text: kid.text[:common], first: []byte{kid.text[common]}, kids: []*literal{lower},
			top: kid.top, stale: kid.stale,
		}
		lower.text = kid.text[common:]
		kid = above
	}
	n.kids[i] = b.insertLiteral(kid, rest[common:], r)
	return n
}

// removeLiteral takes r out of the tree of n, where rest of its text is left, and returns what takes n's place; nil
// when nothing is left.
func (b *builder) removeLiteral(n *literal, rest string, r *Rule) *literal {
	n = b.literal(n)
	if rest == "" {
		n.here = b.bucket(n.here)
		if n.here.drop(b, r); n.here.empty() {
			n.here = nil
		}
	} else {
		i := bytes.IndexByte(n.first, rest[0])
		kid := b.removeLiteral(n.kids[i], rest[len(n.kids[i].text):], r)
		n.stale = n.stale || kid != nil && kid.stale
		switch {
		case kid == nil:
			n.first, n.kids = slices.Delete(n.first, i, i+1), slices.Delete(n.kids, i, i+1)
		case kid.here == nil && len(kid.kids) == 1:
			only := b.literal(kid.kids[0])
			only.text = kid.text + only.text
			n.kids[i] = only
		default:
			n.kids[i] = kid
		}
	}
	if n.here == nil && len(n.kids) == 0 {
		return nil
	}
	n.stale = n.stale || n.top == r
	return n
}

// settle finds the best rules of nodes that have lost theirs; those above them are stale too.
func (n *literal) settle() {
	if n == nil || !n.stale {
		return
	}
	n.top, n.stale = nil, false
	if n.here != nil {
		n.top = n.here.top
	}
	for _, kid := range n.kids {
		kid.settle()
		if n.top == nil || Compare(kid.top, n.top) < 0 {
			n.top = kid.top
		}
	}
}
