package balance

import (
	"math/bits"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// golden is the golden ratio's fraction in units of 2^-64. Its multiples, modulo 1, are spread more evenly than those of any other number,
// whatever the first of them is and however many there are (V. Sós, three-distance theorem, 1958).
const golden = 0x9E3779B97F4A7C15

// ticket is a counter on a cache line of its own: every request writes it, and what lies beside it every request reads.
type ticket struct {
	_ [56]byte
	n atomic.Uint64
	_ [56]byte
}

func (t *ticket) take() uint64 { return t.n.Add(1) - 1 }

// usable draws among the targets that may be picked, by weight. The list of them is made when it is drawn from for the first time after a
// target's health has changed, so that a draw costs the same however many targets are down.
type usable struct {
	targets []Target
	equal   bool // weights don't count
	turn    ticket
	changes atomic.Uint64
	list    atomic.Pointer[usableList]

	making sync.Mutex // of list
}

// usableList is immutable.
type usableList struct {
	changes uint64   // that it knows of
	index   []uint32 // of the targets, in ascending order
	ends    []uint64 // of each one's share, in units of weight
}

// watch makes the targets' states tell of changes. It is called once, when the list of targets takes effect.
func (u *usable) watch(targets []Target, equal bool) {
	u.targets, u.equal = targets, equal
	for i := range targets {
		targets[i].State.index.Store(uint32(i))
		targets[i].State.changes.Store(&u.changes)
	}
}

// current returns the list. One goroutine makes it anew, and others use the last one meanwhile, if there is anything in it.
func (u *usable) current() *usableList {
	list := u.list.Load()
	if list != nil && list.changes == u.changes.Load() {
		return list
	}
	if !u.making.TryLock() {
		if list != nil && len(list.index) > 0 {
			return list
		}
		u.making.Lock()
	}
	defer u.making.Unlock()
	if list = u.list.Load(); list != nil && list.changes == u.changes.Load() {
		return list
	}
	return u.remake()
}

// remake makes the list anew; making is held.
func (u *usable) remake() *usableList {
	list := &usableList{changes: u.changes.Load()}
	sum := uint64(0)
	for i := range u.targets {
		t := &u.targets[i]
		if !t.usable() {
			continue
		}
		if u.equal {
			sum++
		} else {
			sum += uint64(t.Weight)
		}
		list.index = append(list.index, uint32(i))
		list.ends = append(list.ends, sum)
	}
	u.list.Store(list)
	return list
}

// pick draws a target as Balancer.Pick does.
func (u *usable) pick(c Choice) int {
	last := -1
	for range 3 {
		i := u.draw(u.turn.take(), c, u.equal)
		if i < 0 {
			return last
		}
		if u.targets[i].State.Healthy() {
			return i
		}
		last = i // health has changed since: the last that was seen will do when it does all the time
	}
	return last
}

// random draws a target by weight and by chance; -1: there is none.
func (u *usable) random(chance uint64, c Choice) int { return u.draw(chance, c, false) }

// draw returns the target whose share the n-th draw falls into, where what the choice excludes has none; -1: there is
// none.
func (u *usable) draw(n uint64, c Choice, inTurn bool) int {
	list := u.current()
	var memory [8]int
	without, total := memory[:0], list.weight(len(list.index))
	if c.Tried != nil {
		without = u.excluded(list, &c, without)
	}
	for _, at := range without {
		total -= list.share(at)
	}
	if total == 0 {
		return -1
	}
	var p uint64
	if inTurn {
		p = n % total
	} else {
		p, _ = bits.Mul64(n*golden, total)
	}
	for _, at := range without {
		if p < list.weight(at) {
			break
		}
		p += list.share(at)
	}
	at := sort.Search(len(list.ends), func(i int) bool { return list.ends[i] > p })
	return int(list.index[at])
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
	return slices.IndexFunc(u.targets, func(t Target) bool { return t.State == s }) // the next balancer has it, elsewhere
}

// weight returns the sum of the shares before a place.
func (l *usableList) weight(at int) uint64 {
	if at == 0 {
		return 0
	}
	return l.ends[at-1]
}

func (l *usableList) share(at int) uint64 { return l.ends[at] - l.weight(at) }
