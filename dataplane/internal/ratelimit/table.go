package ratelimit

import (
	"sync"
	"sync/atomic"
)

// table keeps the states of keys, by 64 bits of a keyed hash, 16 bytes each. It is made for many goroutines at once:
// keys that are there are looked up and changed without a lock. What adds keys, takes them away or copies a shard holds
// the shard's lock for a moment, and freezes the states that it takes from a key: whoever wants to change one of those
// fails, and looks again.
//
// A key has its place in one of two buckets. Where there is no room, the shard grows; where it may not, or the node's
// budget is used up, the key that has used least makes room, and the new one goes on with its state. So keys without
// end do not make a busy key's state forgotten: to have that, all 15 others of its two buckets have to have used as
// much, and what comes back finds no less than the least of them used. Of concurrency only idle keys make room.
type table struct {
	budget *Budget
	shards [shards]shard
}

const (
	shards = 64
	ways   = 8
	// minBuckets and maxBuckets are the buckets of a shard; a table has 2,097,152 slots at most, of 32 MiB.
	minBuckets = 1
	maxBuckets = 1 << 12
	// frozen is set in the states that are about to be another key's, or another segment's.
	frozen = 1 << 63
)

type shard struct {
	segment atomic.Pointer[segment]
	mu      sync.Mutex // held while tags change
	_       [40]byte
}

type segment struct {
	mask    uint64
	buckets []bucket
}

type bucket [ways]slot

// slot is one key's. tag 0: none, and the state is idle. Who changes the tag freezes the state before, and leaves
// another one afterwards: a change that was begun for the key before does not come through.
type slot struct{ tag, state atomic.Uint64 }

// Budget bounds the slots of all tables of a node.
type Budget struct {
	left atomic.Int64
}

// DefaultSlots is how many keys a node keeps, in all tables: 64 MiB.
const DefaultSlots = 4 << 20

// NewBudget returns a budget of a number of slots.
func NewBudget(slots int64) *Budget {
	b := &Budget{}
	b.left.Store(slots)
	return b
}

// take takes slots, or with n below 0 gives them back, which it may whatever is left.
func (b *Budget) take(n int64) bool {
	if b.left.Add(-n) >= 0 || n <= 0 {
		return true
	}
	b.left.Add(n)
	return false
}

func tagOf(hash uint64) uint64 {
	if hash == 0 {
		return 1
	}
	return hash
}

func (t *table) shard(tag uint64) *shard { return &t.shards[tag>>58] }

func (g *segment) two(tag uint64) (one, two *bucket) {
	return &g.buckets[tag&g.mask], &g.buckets[tag>>24&g.mask]
}

// find returns the slot of a key; nil: there is none.
func (g *segment) find(tag uint64) *slot {
	one, two := g.two(tag)
	for i := range one {
		if one[i].tag.Load() == tag {
			return &one[i]
		}
	}
	for i := range two {
		if two[i].tag.Load() == tag {
			return &two[i]
		}
	}
	return nil
}

// load returns the state of a key; 0 where nothing is known of it.
func (t *table) load(tag uint64) uint64 {
	g := t.shard(tag).segment.Load()
	if g == nil {
		return 0
	}
	if s := g.find(tag); s != nil {
		return s.state.Load() &^ frozen // what is frozen is still what it was
	}
	return 0
}

// place returns the slot of a key, which it makes where there is none; nil: there is no room.
func (t *table) place(tag uint64, m *meter, at *moment) *slot {
	sh := t.shard(tag)
	if g := sh.segment.Load(); g != nil {
		if s := g.find(tag); s != nil {
			return s
		}
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for {
		g := sh.segment.Load()
		if g == nil {
			t.resize(sh, nil, minBuckets, m, at)
			continue
		}
		if s := g.find(tag); s != nil {
			return s
		}
		s, least := g.room(tag, m, at)
		if least > 0 {
			if n := uint64(len(g.buckets)); n < maxBuckets && t.resize(sh, g, 2*n, m, at) {
				continue
			}
			if !m.evicts() {
				return nil
			}
		}
		if s.retag(tag, least, m, at) {
			return s
		}
	}
}

// retag makes a slot another key's. It reports false, and changes nothing, where the key that has it has used more than
// least meanwhile: what that one has under way could not be given back any more. The shard's lock is held.
func (s *slot) retag(tag uint64, least int64, m *meter, at *moment) bool {
	state := s.state.Or(frozen)
	if m.used(state, at) > least {
		s.state.And(^uint64(frozen))
		return false
	}
	s.tag.Store(tag)
	s.state.Store(m.inherit(state, at))
	return true
}

// room returns the slot that a new key is to have: the first one that is idle, or else the one that is used least.
func (g *segment) room(tag uint64, m *meter, at *moment) (best *slot, least int64) {
	one, two := g.two(tag)
	for _, b := range [...]*bucket{one, two} {
		for i := range b {
			s := &b[i]
			used := m.used(s.state.Load()&^frozen, at)
			if used == 0 {
				return s, 0
			}
			if best == nil || used < least {
				best, least = s, used
			}
		}
	}
	return best, least
}

// evicts reports whether keys that are in use may make room for others: not where what is under way ends some time.
func (m *meter) evicts() bool { return m.window > 0 || m.settings.Calendar != 0 }

// await waits until tags of a key's shard do not change.
func (t *table) await(tag uint64) {
	sh := t.shard(tag)
	sh.mu.Lock()
	defer sh.mu.Unlock()
}

// resize copies a shard, whose lock is held, into a number of buckets. It reports false where the budget does not allow
// that.
func (t *table) resize(sh *shard, old *segment, buckets uint64, m *meter, at *moment) bool {
	more := int64(buckets) * ways
	if old != nil {
		more -= int64(len(old.buckets)) * ways
	}
	if old == nil { // a table has a few slots in any case
		t.budget.left.Add(-more)
		sh.segment.Store(newSegment(buckets))
		return true
	}
	if !t.budget.take(more) {
		return false
	}
	next := old.copyTo(newSegment(buckets), m, at)
	t.budget.left.Add((int64(buckets) - int64(len(next.buckets))) * ways) // it may have to be larger
	sh.segment.Store(next)
	return true
}

func newSegment(buckets uint64) *segment { return &segment{buckets - 1, make([]bucket, buckets)} }

// copyTo freezes a segment and copies what is in use. A larger one is returned where there is no room in it for what
// has to be kept.
func (g *segment) copyTo(next *segment, m *meter, at *moment) *segment {
	for i := range g.buckets {
		for j := range g.buckets[i] {
			g.buckets[i][j].state.Or(frozen)
		}
	}
	for {
		if g.copied(next, m, at) {
			return next
		}
		next = newSegment(2 * uint64(len(next.buckets)))
	}
}

func (g *segment) copied(next *segment, m *meter, at *moment) bool {
	for i := range g.buckets {
		for j := range g.buckets[i] {
			tag, state := g.buckets[i][j].tag.Load(), g.buckets[i][j].state.Load()&^frozen
			used := m.used(state, at)
			if tag == 0 || used == 0 {
				continue
			}
			s, least := next.room(tag, m, at)
			switch {
			case least > 0 && !m.evicts():
				return false
			case least < used: // otherwise that one is worth keeping more, and this one goes on with its state
				s.tag.Store(tag)
				s.state.Store(state)
			}
		}
	}
	return true
}

// tidy takes idle keys away, and shrinks what has become too large. It returns how many keys are in use.
func (t *table) tidy(m *meter, at *moment) (keys int) {
	for i := range t.shards {
		sh := &t.shards[i]
		if sh.segment.Load() != nil {
			keys += t.tidyShard(sh, m, at)
		}
	}
	return keys
}

func (t *table) tidyShard(sh *shard, m *meter, at *moment) (keys int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	g := sh.segment.Load()
	if g == nil {
		return 0
	}
	for b := range g.buckets {
		for j := range g.buckets[b] {
			s := &g.buckets[b][j]
			state := s.state.Load()
			switch {
			case m.used(state, at) > 0:
				keys++
			case state == 0 && s.tag.Load() == 0:
			case s.state.CompareAndSwap(state, state|frozen):
				// Also where there is no tag: old numbers of windows must not come round and look new.
				s.tag.Store(0)
				s.state.Store(m.inherit(state, at))
			}
		}
	}
	if n := uint64(len(g.buckets)); n > minBuckets && keys*8 < int(n)*ways {
		t.resize(sh, g, n/2, m, at)
	}
	return keys
}

// close gives the budget back.
func (t *table) close() {
	for i := range t.shards {
		if g := t.shards[i].segment.Swap(nil); g != nil {
			t.budget.left.Add(int64(len(g.buckets)) * ways)
		}
	}
}
