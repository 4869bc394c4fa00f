package balance

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"sync/atomic"
)

// golden is the golden ratio's fraction in units of 2^-64. Its multiples, modulo 1, are spread more evenly than those
// of any other number, whatever the first of them is and however many there are (the three-distance
// theorem, Sós 1958).
const golden = 0x9E3779B97F4A7C15

// ticket is a counter on a cache line of its own: every request writes it, and what lies beside it every request reads.
type ticket struct {
	_ [56]byte
	n atomic.Uint64
	_ [56]byte
}

func (t *ticket) take() uint64 { return t.n.Add(1) - 1 }

// usable draws among the targets that may be picked, by weight. The list of them is made when it is drawn from for the
// first time after a target's health has changed, so that a draw costs the same however many targets are down.
type usable struct {
	*group
	equal bool // weights don't count
	turn  ticket
	list  derived[usableList]
}

// usableList is immutable.
type usableList struct {
	index  []uint32 // of the targets, in ascending order
	shares          // of each of them
	even   bool     // they have the same share: a place says which one it is without a search
	oldest int64    // when the first of them became healthy
	panics bool     // they are all targets, whatever their health
}

// watch makes the targets' states tell of changes. It is called once, when the list of targets takes effect.
func (u *usable) watch(in *group, equal bool) {
	u.group, u.equal = in, equal
	for i := range in.targets {
		in.targets[i].State.index.Store(uint32(i))
		in.targets[i].State.changes.Store(&in.health.changes)
	}
}

// current returns the list.
func (u *usable) current() *usableList {
	changes := &u.health.changes
	if list := u.list.known(changes); list != nil {
		return list
	}
	return u.list.make(changes, func(l *usableList) bool { return len(l.index) > 0 }, u.listed)
}

// listed returns the list as it is to be now.
func (u *usable) listed() *usableList {
	list := &usableList{even: true, oldest: math.MaxInt64, panics: u.health.panics(u.place)}
	sum := uint64(0)
	for i := range u.targets {
		t := &u.targets[i]
		if t.Weight == 0 || !list.panics && !t.State.Healthy() {
			continue
		}
		share := uint64(1)
		if !u.equal {
			share = uint64(t.Weight)
		}
		sum += share
		list.index = append(list.index, uint32(i))
		list.ends = append(list.ends, sum)
		list.even = list.even && sum == share*uint64(len(list.index))
		if begun := t.State.begun.Load(); begun != 0 {
			list.oldest = min(list.oldest, begun)
		} else {
			list.oldest = math.MinInt64 / 2 // long ago
		}
	}
	if !list.even {
		list.shares = sharesOf(list.ends)
	}
	return list
}

// attempts is how often a target is drawn where it may be another one than the draw says: its health has changed
// since the list was made, or it is in its slow start.
const attempts = 8

// pick draws a target as Strategy.Pick does.
func (u *usable) pick(c Choice) int {
	last := -1
	for range attempts {
		i := u.draw(u.turn.take(), c, u.equal)
		if i < 0 {
			return last
		}
		if s := u.targets[i].State; (s.Healthy() || c.panics) && u.accepts(s, c.Now) {
			return i
		}
		last = i // it will do when it is the same all the time
	}
	return last
}

// random draws a target by weight and by chance; -1: there is none.
func (u *usable) random(c Choice) int {
	i := -1
	for range attempts {
		if i = u.draw(rand.Uint64(), c, false); i < 0 || u.accepts(u.targets[i].State, c.Now) {
			break
		}
	}
	return i
}

// draw returns the target whose share the n-th draw falls into, where what the choice excludes has none; -1: there is
// none.
func (u *usable) draw(n uint64, c Choice, inTurn bool) int {
	list := u.current()
	if c.Tried.Len() > c.from {
		return u.drawWithout(list, n, c, inTurn)
	}
	switch count := len(list.index); {
	case count == 0:
		return -1
	case list.even:
		return int(list.index[placeOf(n, uint64(count), inTurn)])
	default:
		return int(list.index[list.find(placeOf(n, list.weight(count), inTurn))])
	}
}

// placeOf returns the place of the n-th draw, below total.
func placeOf(n, total uint64, inTurn bool) uint64 {
	if inTurn {
		return n % total
	}
	return scale(n*golden, total)
}

// drawWithout is draw where something was tried.
func (u *usable) drawWithout(list *usableList, n uint64, c Choice, inTurn bool) int {
	var memory [8]int
	without, total := u.excluded(list, &c, memory[:0]), list.weight(len(list.index))
	for _, at := range without {
		total -= list.share(at)
	}
	if total == 0 {
		return -1
	}
	p := placeOf(n, total, inTurn)
	for _, at := range without {
		if p < list.weight(at) {
			break
		}
		p += list.share(at)
	}
	return int(list.index[list.find(p)])
}

// excluded appends the places in the list of what the choice excludes, in ascending order and each once.
func (u *usable) excluded(list *usableList, c *Choice, places []int) []int {
	for k := c.from; k < c.Tried.Len(); k++ {
		i := u.indexOf(c.Tried.at(k))
		at := sort.Search(len(list.index), func(at int) bool { return int(list.index[at]) >= i })
		if i < 0 || at == len(list.index) || int(list.index[at]) != i {
			continue
		}
		if before, has := slices.BinarySearch(places, at); !has {
			places = slices.Insert(places, before, at)
		}
	}
	return places
}

// indexOf returns a target's index by its state, or -1.
func (u *usable) indexOf(s *State) int {
	if i := int(s.index.Load()); i < len(u.targets) && u.targets[i].State == s {
		return i
	}
	// The next balancer has it, elsewhere.
	return slices.IndexFunc(u.targets, func(t Target) bool { return t.State == s })
}

// find returns whose share a place is in.
func (l *usableList) find(place uint64) int {
	if l.even {
		return int(place / l.ends[0])
	}
	return l.shares.find(place)
}

// weight returns the sum of the shares before a place.
func (l *usableList) weight(at int) uint64 {
	if at == 0 {
		return 0
	}
	return l.ends[at-1]
}

func (l *usableList) share(at int) uint64 { return l.ends[at] - l.weight(at) }
