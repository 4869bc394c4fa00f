package balance

import (
	"slices"

	"gateway.internal/shared/keyhash"
)

// DefaultTableSize is the number of places of a table of consistent_hash where Settings do not say: Envoy's and
// Maglev's.
const DefaultTableSize = 65537

// table is which target each place belongs to, by weight. It depends on keys and weights alone, so that all nodes have
// the same one.
//
// It is looked up as the table of Maglev (Eisenbud et al. 2016) is, but filled by weighted rendezvous hashing (Thaler
// and Ravishankar 1998), since Maglev moves about twice as many keys as it has to when targets come and go, and this
// not one: each target hits places at random, as often in a time as its weight says, and a place belongs to the one
// that hits it first. So a target that comes takes places, and one that goes gives its own up, and no other place
// changes. To make it, only as many hits are followed as it takes until every place is hit: about size * ln(size),
// for any number of targets.
type table struct {
	owner []uint32 // by place: the index of its target
	hit   []uint32 // by place: the number of the owner's hit, from which its time is known
}

// newTable returns the table of targets, of which at least one has a weight.
func newTable(targets []Target, size int) *table {
	f := newFilling(targets, size)
	f.empty = size
	all := make([]uint32, 0, len(targets))
	for i := range targets {
		if targets[i].Weight > 0 {
			all = append(all, uint32(i))
		}
	}
	f.fill(all, nil)
	return f.table
}

// filling is a table on its way.
type filling struct {
	*table
	hitters []hitter // by index of the targets
	empty   int      // places that nobody has hit yet
	// first is by place when its owner hits it, above 0; 0: nobody has hit it, or it is none of the places that are hit.
	first []float64
}

func newFilling(targets []Target, size int) *filling {
	f := &filling{
		table:   &table{owner: make([]uint32, size), hit: make([]uint32, size)},
		hitters: make([]hitter, len(targets)), first: make([]float64, size),
	}
	for i := range targets {
		f.hitters[i] = hitter{seed: keyhash.Text(targets[i].Key), weight: float64(targets[i].Weight)}
	}
	return f
}

// fill has some targets hit the places that are empty, until none is.
func (f *filling) fill(by []uint32, empty places) {
	weights := 0.0
	for _, i := range by {
		weights += f.hitters[i].weight
	}
	step := float64(len(f.owner)) / weights
	for until := step; f.empty > 0; until += step {
		for _, i := range by {
			f.hits(i, until, empty)
		}
	}
	last := slices.Max(f.first)
	for _, i := range by { // others may have hit the last places before
		f.hits(i, last, empty)
	}
}

// hits makes all hits of a target on some places up to a time, and perhaps one after it.
func (f *filling) hits(i uint32, until float64, on places) {
	h, size := &f.hitters[i], uint64(len(f.owner))
	for ; float64(h.next) <= until*h.weight; h.next++ {
		chance := h.chance(h.next)
		place := scale(chance, size)
		if on != nil && !on.has(place) {
			continue
		}
		at, its := h.at(h.next, chance), f.first[place]
		switch {
		case its == 0:
			f.empty--
		case at > its || at == its && h.seed >= f.hitters[f.owner[place]].seed: // in whatever order they come
			continue
		}
		f.owner[place], f.hit[place], f.first[place] = i, uint32(h.next), at
	}
}

// hitter is a target that hits places of a table.
type hitter struct {
	seed   uint64
	weight float64
	next   uint64 // number of its next hit
}

// chance is what a hit's place and time come from.
func (h *hitter) chance(n uint64) uint64 { return keyhash.Mix(h.seed + n*golden) }

// at returns the time of a hit, by its number and chance. It is above 0.
func (h *hitter) at(n, chance uint64) float64 {
	return (float64(n) + (float64(uint32(chance))+1)/(1<<32)) / h.weight
}

// places is a set of places of a table, by 64; nil: all of them.
type places []uint64

func newPlaces(size int) places { return make(places, (size+63)/64) }

func (p places) has(place uint64) bool { return p[place/64]>>(place%64)&1 != 0 }

func (p places) add(place uint64) { p[place/64] |= 1 << (place % 64) }
