// Package hamt has an immutable map: a hash array mapped trie (Bagwell, "Ideal Hash Trees", 2001) in the compact form
// of Steindorfer and Vinju, "Optimizing Hash-Array Mapped Tries" (2015). A changed copy shares all but the paths to
// what changed, and what differs between two is found without looking at what they share. It does not know what its
// values are.
package hamt

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// Keyer says what the key of a value is. A value keeps its key.
type Keyer[V any] interface{ Of(v V) string }

// Map is an immutable map of values by the keys that they have. The zero value is empty; the zero value of V stands for
// none and is never in it. It is safe for concurrent use, and reading it takes no lock.
type Map[V comparable, K Keyer[V]] struct {
	root *node[V]
	n    int
}

const (
	levelBits = 5
	// hashBits is how much of a key's hash there is: keys with the same one are in a node without bitmaps below that.
	hashBits = 64
)

// node has what begins with the same bits. Of the next bits, leaves says which are of one value, nodes which are of
// several.
type node[V any] struct {
	leafMap, nodeMap uint32
	leaves           []V
	nodes            []*node[V]
	owner            *owner // the draft that may change it in place
}

// owner tells drafts apart; it has a size, so that two have different addresses.
type owner struct{ _ byte }

var seed = maphash.MakeSeed()

func hashOf(key string) uint64 { return maphash.String(seed, key) }

func bitOf(hash uint64, shift uint) uint32 { return 1 << (hash >> shift & (1<<levelBits - 1)) }

func place(bitmap, bit uint32) int { return bits.OnesCount32(bitmap & (bit - 1)) }

// Len returns the number of values.
func (m Map[V, K]) Len() int { return m.n }

// Get returns the value of a key, or none. It does not allocate, unless K does.
func (m Map[V, K]) Get(key string) V {
	var none V
	var k K
	h := hashOf(key)
	n := m.root
	for shift := uint(0); n != nil; shift += levelBits {
		if shift >= hashBits {
			if i := find[V, K](n, key); i >= 0 {
				return n.leaves[i]
			}
			return none
		}
		bit := bitOf(h, shift)
		if n.leafMap&bit != 0 {
			if v := n.leaves[place(n.leafMap, bit)]; k.Of(v) == key {
				return v
			}
			return none
		}
		if n.nodeMap&bit == 0 {
			return none
		}
		n = n.nodes[place(n.nodeMap, bit)]
	}
	return none
}

// find returns where a key is among the leaves of a node without bitmaps.
func find[V comparable, K Keyer[V]](n *node[V], key string) int {
	var k K
	return slices.IndexFunc(n.leaves, func(v V) bool { return k.Of(v) == key })
}

// All yields the values in no order.
func (m Map[V, K]) All() iter.Seq[V] {
	return func(yield func(V) bool) {
		if m.root != nil {
			each(m.root, yield)
		}
	}
}

func each[V any](n *node[V], yield func(V) bool) bool {
	for _, v := range n.leaves {
		if !yield(v) {
			return false
		}
	}
	for _, child := range n.nodes {
		if !each(child, yield) {
			return false
		}
	}
	return true
}

// Diff calls changed for what differs between two maps, in no order: a value that is none is absent. Values that are
// the same by == do not differ.
func Diff[V comparable, K Keyer[V]](a, b Map[V, K], changed func(before, after V)) {
	d := differ[V, K]{changed}
	d.nodes(a.root, b.root, 0)
}

type differ[V comparable, K Keyer[V]] struct{ changed func(before, after V) }

func (d differ[V, K]) nodes(a, b *node[V], shift uint) {
	if a == b {
		return
	}
	if a == nil {
		a = &node[V]{}
	}
	if b == nil {
		b = &node[V]{}
	}
	if shift >= hashBits {
		d.lists(a, b)
		return
	}
	for both := a.leafMap | a.nodeMap | b.leafMap | b.nodeMap; both != 0; both &= both - 1 {
		d.slots(a, b, both&-both, shift)
	}
}

// slots compares what two nodes have at a bit.
func (d differ[V, K]) slots(a, b *node[V], bit uint32, shift uint) {
	var none V
	before, inA := a.leafAt(bit)
	after, inB := b.leafAt(bit)
	under, below := a.nodeAt(bit), b.nodeAt(bit)
	switch {
	case inA && inB:
		d.pair(before, after)
	case inA && below != nil:
		d.oneAndMany(before, below, func(one, of V) { d.changed(one, of) })
	case inB && under != nil:
		d.oneAndMany(after, under, func(one, of V) { d.changed(of, one) })
	case inA:
		d.changed(before, none)
	case inB:
		d.changed(none, after)
	default:
		d.nodes(under, below, shift+levelBits)
	}
}

func (d differ[V, K]) pair(before, after V) {
	var k K
	var none V
	switch {
	case before == after:
	case k.Of(before) == k.Of(after):
		d.changed(before, after)
	default:
		d.changed(before, none)
		d.changed(none, after)
	}
}

// oneAndMany compares a value on one side with those of a node on the other.
func (d differ[V, K]) oneAndMany(one V, many *node[V], changed func(one, of V)) {
	var k K
	var none V
	key, met := k.Of(one), false
	each(many, func(v V) bool {
		switch {
		case k.Of(v) != key:
			changed(none, v)
		case v != one:
			met = true
			changed(one, v)
		default:
			met = true
		}
		return true
	})
	if !met {
		changed(one, none)
	}
}

// lists compares nodes without bitmaps.
func (d differ[V, K]) lists(a, b *node[V]) {
	var k K
	var none V
	for _, v := range a.leaves {
		if i := find[V, K](b, k.Of(v)); i < 0 {
			d.changed(v, none)
		} else if b.leaves[i] != v {
			d.changed(v, b.leaves[i])
		}
	}
	for _, v := range b.leaves {
		if find[V, K](a, k.Of(v)) < 0 {
			d.changed(none, v)
		}
	}
}

func (n *node[V]) leafAt(bit uint32) (v V, is bool) {
	if n.leafMap&bit == 0 {
		return v, false
	}
	return n.leaves[place(n.leafMap, bit)], true
}

func (n *node[V]) nodeAt(bit uint32) *node[V] {
	if n.nodeMap&bit == 0 {
		return nil
	}
	return n.nodes[place(n.nodeMap, bit)]
}
