package balance

import "gateway.internal/shared/keyhash"

// DefaultTableSize is the number of places of a table of consistent_hash where Settings do not say: Envoy's and
// Maglev's.
const DefaultTableSize = 65537

// newTable returns which target each place of a table belongs to, by weight. It depends on keys and weights alone, so
// that all nodes have the same one; at least one weight is above 0.
//
// It is looked up as the table of Maglev (Eisenbud et al. 2016) is, but filled by weighted rendezvous hashing (Thaler
// and Ravishankar 1998), since Maglev moves about twice as many keys as it has to when targets come and go, and this
// not one: each target hits places at random, as often in a time as its weight says, and a place belongs to the one
// that hits it first. So a target that comes takes places, and one that goes gives its own up, and no other place
// changes. To make it, only as many hits are followed as it takes until every place is hit: about size * ln(size),
// for any number of targets.
func newTable(targets []Target, size int) []uint32 {
	table, first := make([]uint32, size), make([]float64, size)
	hitters := make([]hitter, 0, len(targets))
	weights := 0.0
	for i, t := range targets {
		if t.Weight > 0 {
			hitters = append(hitters, hitter{index: uint32(i), seed: keyhash.Text(t.Key), weight: float64(t.Weight)})
			weights += float64(t.Weight)
		}
	}
	step := float64(size) / weights
	empty := size
	for until := step; empty > 0; until += step {
		for i := range hitters {
			empty -= hitters[i].hit(until, table, first)
		}
	}
	last := 0.0
	for _, at := range first {
		last = max(last, at)
	}
	for i := range hitters { // others may have hit the last places before
		hitters[i].hit(last, table, first)
	}
	return table
}

// hitter is a target that hits places of a table.
type hitter struct {
	index  uint32
	seed   uint64
	weight float64
	next   uint64 // number of its next hit
}

// hit makes all hits up to a time, and perhaps one after it, and returns how many places were hit for the first time.
// The time of a hit is above 0: 0 in first tells that a place was not hit.
func (h *hitter) hit(until float64, table []uint32, first []float64) (filled int) {
	size := uint64(len(table))
	for ; float64(h.next) <= until*h.weight; h.next++ {
		chance := keyhash.Mix(h.seed + h.next*golden)
		place := scale(chance, size)
		at := (float64(h.next) + (float64(uint32(chance))+1)/(1<<32)) / h.weight
		switch before := first[place]; {
		case before == 0:
			filled++
		case at >= before:
			continue
		}
		table[place], first[place] = h.index, at
	}
	return filled
}
