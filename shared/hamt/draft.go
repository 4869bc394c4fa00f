package hamt

// Draft is a map that is being changed. What it shares with the one that it was made from it copies before it changes
// it. It is not safe for concurrent use.
type Draft[V comparable, K Keyer[V]] struct {
	m     Map[V, K]
	owner *owner
}

// Draft returns a draft that begins as the map.
func (m Map[V, K]) Draft() *Draft[V, K] { return &Draft[V, K]{m, &owner{}} }

// Map returns what the draft has come to. The draft may be changed further, which the map does not see.
func (d *Draft[V, K]) Map() Map[V, K] {
	d.owner = &owner{}
	return d.m
}

// Get is the map's.
func (d *Draft[V, K]) Get(key string) V { return d.m.Get(key) }

// Put puts a value in the place of the one with its key, which it returns; none: there was none.
func (d *Draft[V, K]) Put(v V) (old V) {
	var k K
	if d.m.root == nil {
		d.m.root = &node[V]{owner: d.owner}
	}
	d.m.root, old = d.put(d.m.root, 0, hashOf(k.Of(v)), v)
	var none V
	if old == none {
		d.m.n++
	}
	return old
}

// Remove removes the value of a key and returns it; none: there was none.
func (d *Draft[V, K]) Remove(key string) (old V) {
	if d.m.root == nil {
		return old
	}
	d.m.root, old = d.remove(d.m.root, 0, hashOf(key), key)
	var none V
	if old != none {
		d.m.n--
	}
	if d.m.n == 0 {
		d.m.root = nil
	}
	return old
}

// writable returns a node that the draft may change. Its slices are replaced, never written to: they have no room to
// spare, and may be another map's.
func (d *Draft[V, K]) writable(n *node[V]) *node[V] {
	if n.owner == d.owner {
		return n
	}
	c := *n
	c.owner = d.owner
	return &c
}

func (d *Draft[V, K]) put(n *node[V], shift uint, hash uint64, v V) (next *node[V], old V) {
	var k K
	if shift >= hashBits {
		n = d.writable(n)
		if i := find[V, K](n, k.Of(v)); i >= 0 {
			old = n.leaves[i]
			n.leaves = with(n.leaves, i, v)
		} else {
			n.leaves = inserted(n.leaves, len(n.leaves), v)
		}
		return n, old
	}
	bit := bitOf(hash, shift)
	if child := n.nodeAt(bit); child != nil {
		changed, old := d.put(child, shift+levelBits, hash, v)
		if changed != child {
			n = d.writable(n)
			n.nodes = with(n.nodes, place(n.nodeMap, bit), changed)
		}
		return n, old
	}
	n = d.writable(n)
	at := place(n.leafMap, bit)
	there, is := n.leafAt(bit)
	switch {
	case !is:
		n.leaves = inserted(n.leaves, at, v)
		n.leafMap |= bit
	case k.Of(there) == k.Of(v):
		n.leaves = with(n.leaves, at, v)
		return n, there
	default: // two that have these bits in common
		child := &node[V]{owner: d.owner}
		child, _ = d.put(child, shift+levelBits, hashOf(k.Of(there)), there)
		child, _ = d.put(child, shift+levelBits, hash, v)
		n.leaves = without(n.leaves, at)
		n.leafMap &^= bit
		n.nodes = inserted(n.nodes, place(n.nodeMap, bit), child)
		n.nodeMap |= bit
	}
	return n, old
}

// remove leaves no node with a single value below the root: maps of the same values have the same shape, by which what
// differs between two is found.
func (d *Draft[V, K]) remove(n *node[V], shift uint, hash uint64, key string) (next *node[V], old V) {
	var k K
	if shift >= hashBits {
		i := find[V, K](n, key)
		if i < 0 {
			return n, old
		}
		old = n.leaves[i]
		n = d.writable(n)
		n.leaves = without(n.leaves, i)
		return n, old
	}
	bit := bitOf(hash, shift)
	if there, is := n.leafAt(bit); is {
		if k.Of(there) != key {
			return n, old
		}
		n = d.writable(n)
		n.leaves = without(n.leaves, place(n.leafMap, bit))
		n.leafMap &^= bit
		return n, there
	}
	child := n.nodeAt(bit)
	if child == nil {
		return n, old
	}
	changed, old := d.remove(child, shift+levelBits, hash, key)
	at := place(n.nodeMap, bit)
	switch {
	case len(changed.leaves) == 1 && len(changed.nodes) == 0:
		n = d.writable(n)
		n.nodes = without(n.nodes, at)
		n.nodeMap &^= bit
		n.leaves = inserted(n.leaves, place(n.leafMap, bit), changed.leaves[0])
		n.leafMap |= bit
	case changed != child:
		n = d.writable(n)
		n.nodes = with(n.nodes, at, changed)
	}
	return n, old
}

func with[T any](list []T, at int, v T) []T {
	next := append(make([]T, 0, len(list)), list...)
	next[at] = v
	return next
}

func inserted[T any](list []T, at int, v T) []T {
	next := make([]T, len(list)+1)
	copy(next, list[:at])
	next[at] = v
	copy(next[at+1:], list[at:])
	return next
}

func without[T any](list []T, at int) []T {
	if len(list) == 1 {
		return nil
	}
	next := make([]T, len(list)-1)
	copy(next, list[:at])
	copy(next[at:], list[at+1:])
	return next
}
