package circuit

import (
	"runtime"
	"sync/atomic"
)

// slots is how many parts an interval has: the oldest of them is forgotten as a whole.
const slots = 10

// counter counts what happens in one slot of time: the number of the slot is in its upper half, so that whoever counts
// first in a later one begins anew with the same operation.
type counter struct{ word atomic.Uint64 }

// add counts one in a slot.
func (c *counter) add(slot uint32) {
	for {
		old := c.word.Load()
		switch at := uint32(old >> 32); {
		case at == slot:
			c.word.Add(1) // in another slot by now, if it took an interval to come here
			return
		case at > slot:
			return // the clock of another one is ahead by a whole interval
		}
		if c.word.CompareAndSwap(old, uint64(slot)<<32|1) {
			return
		}
	}
}

// in returns what was counted from one slot on up to another.
func (c *counter) in(from, to uint32) uint64 {
	word := c.word.Load()
	if at := uint32(word >> 32); at < from || at > to {
		return 0
	}
	return word & (1<<32 - 1)
}

// shard is counters that no other core writes to at the same time, if possible.
type shard struct {
	total, failed, slow [slots]counter
	_                   [16]byte
}

// shardCount returns into how many parts counters are spread: a power of two.
func shardCount() int {
	n := 1
	for n < runtime.GOMAXPROCS(0) && n < 16 {
		n *= 2
	}
	return n
}

// rolling counts the results of the last slots. It is safe for concurrent use.
type rolling struct {
	shards []shard
}

func newRolling() rolling {
	return rolling{make([]shard, shardCount())}
}

// add counts a result.
func (r *rolling) add(slot, by uint32, failed, slow bool) {
	s, i := &r.shards[int(by)&(len(r.shards)-1)], slot%slots
	s.total[i].add(slot)
	if failed {
		s.failed[i].add(slot)
	}
	if slow {
		s.slow[i].add(slot)
	}
}

// sum returns the results from a slot on up to another one, which are at most slots.
func (r *rolling) sum(from, to uint32) (total, failed, slow uint64) {
	for i := range r.shards {
		s := &r.shards[i]
		for j := range slots {
			total += s.total[j].in(from, to)
			failed += s.failed[j].in(from, to)
			slow += s.slow[j].in(from, to)
		}
	}
	return total, failed, slow
}

// reset forgets all results. What others count meanwhile may stay.
func (r *rolling) reset() {
	for i := range r.shards {
		s := &r.shards[i]
		for _, counters := range []*[slots]counter{&s.total, &s.failed, &s.slow} {
			for j := range counters {
				counters[j].word.Store(0)
			}
		}
	}
}
