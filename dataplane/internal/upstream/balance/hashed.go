package balance

import (
	"math"
	"slices"
	"sync/atomic"

	"gateway.internal/shared/keyhash"
)

// probes is how many places of the table are looked at for a target that may be chosen.
const probes = 32

// hashed is consistent_hash: requests with the same key go to the same target while it may be chosen, and then all to
// the same other one. Those without a key share by weight.
type hashed struct {
	base
	table *table  // nil: no target has a weight
	bound float64 // Settings.Bound
	load  inFlight
}

func newHashed(set *Settings, in *group, previous Strategy) Strategy {
	size := set.TableSize
	if size == 0 {
		size = DefaultTableSize
	}
	h := &hashed{base: base{group: in}, bound: set.Bound}
	h.spare.watch(in, false)
	h.spare.turn.n.Store(spareOf(previous, in))
	before, _ := previous.(*hashed)
	switch {
	case !slices.ContainsFunc(in.targets, func(t Target) bool { return t.Weight > 0 }):
	case before == nil || before.table == nil || len(before.table.owner) != size:
		h.table = newTable(in.targets, size)
	case slices.EqualFunc(before.targets, in.targets, sameHits):
		h.table = before.table
	default:
		if h.table = before.table.changed(before.targets, in.targets); h.table == nil {
			h.table = newTable(in.targets, size)
		}
	}
	return h
}

// sameHits reports whether two targets have the same places in a table, beside the same others.
func sameHits(a, b Target) bool { return a.Key == b.Key && a.Weight == b.Weight }

// Pick implements Strategy.
func (h *hashed) Pick(c Choice) int {
	if !c.Keyed || h.table == nil {
		return h.spare.pick(c)
	}
	mean := 0.0
	if h.bound > 0 {
		mean = h.load.mean(&h.spare)
	}
	at, least, owner := c.Hash, -1, h.table.owner
	for range probes {
		i := int(owner[scale(at, uint64(len(owner)))])
		if t := &h.targets[i]; c.allows(t.State) {
			if h.takes(i, mean) {
				return i
			}
			if least < 0 || h.fewer(i, least) {
				least = i
			}
		}
		at = keyhash.Mix(at + golden)
	}
	if least < 0 {
		return h.spare.draw(at, c, false)
	}
	for range probes { // all that the key leads to are full
		if i := h.spare.random(c); i >= 0 && h.takes(i, mean) {
			return i
		}
	}
	return least
}

// takes reports whether a target has room for one more request, where the mean of those in flight is that for each
// unit of weight.
func (h *hashed) takes(i int, mean float64) bool {
	t := &h.targets[i]
	return h.bound == 0 || float64(t.State.InFlight()+1) <= max(1, math.Ceil(h.bound*mean*float64(t.Weight)))
}

// fewer reports whether a target has fewer requests in flight for its weight than another.
func (h *hashed) fewer(i, j int) bool {
	a, b := &h.targets[i], &h.targets[j]
	return a.State.InFlight()*int64(b.Weight) < b.State.InFlight()*int64(a.Weight)
}

// summed is how many targets' requests are counted for each pick, on average.
const summed = 8

// inFlight is the requests in flight of a group. They are counted anew every few picks: there is no counter that all
// requests would write.
type inFlight struct {
	picks ticket
	sum   atomic.Int64
}

// mean returns how many requests there are in flight for each unit of weight, with the one that is being picked for.
// It is as of the last picks, one for every eight targets.
func (f *inFlight) mean(u *usable) float64 {
	sum, every := int64(0), uint64(len(u.targets)/summed)
	if every < 2 || f.picks.take()%every == 0 {
		for i := range u.targets {
			sum += u.targets[i].State.InFlight()
		}
		f.sum.Store(sum)
	} else {
		sum = f.sum.Load()
	}
	list := u.current()
	if weights := list.weight(len(list.index)); weights > 0 {
		return float64(max(sum, 0)+1) / float64(weights)
	}
	return math.Inf(1)
}
