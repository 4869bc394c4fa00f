package balance

import (
	"sort"
	"sync/atomic"
)

// health is what is known of the health of a balancer's targets: how it changes, and what follows for its tiers.
type health struct {
	// changes counts what happens to it.
	changes atomic.Uint64
	tiers   []*group
	over    float64 // Settings.Overprovisioning
	panic   float64 // Settings.Panic
	derived derived[loads]
}

// loads are the shares of a balancer's tiers. They are immutable.
type loads struct {
	ends    []uint64 // of each tier's share, in units of 2^-32
	panics  []bool   // health is not looked at in the tier
	several bool     // more than one tier has a share
}

// draw returns the tier whose share a number of 64 bits falls into.
func (l *loads) draw(n uint64) int {
	p := n >> 32
	return sort.Search(len(l.ends)-1, func(i int) bool { return l.ends[i] > p })
}

func (h *health) loads() *loads {
	if l := h.derived.known(&h.changes); l != nil {
		return l
	}
	return h.derived.make(&h.changes, func(*loads) bool { return true }, h.shares)
}

// panics reports whether health is not looked at in a tier.
func (h *health) panics(tier int) bool { return h.panic > 0 && h.loads().panics[tier] }

// shares works the loads out as Envoy does ("priority levels"): a tier takes what its healthy share is good for,
// times the overprovisioning factor, of what the tiers before it have left. Where all together are good for less than
// everything, their loads grow alike, and health is not looked at in tiers that have less of it than Settings.Panic.
func (h *health) shares() *loads {
	n := len(h.tiers)
	l := &loads{ends: make([]uint64, n), panics: make([]bool, n)}
	healthy, members, good := make([]float64, n), make([]float64, n), make([]float64, n)
	sum, all := 0.0, 0.0
	for t, g := range h.tiers {
		for i := range g.targets {
			if g.targets[i].Weight == 0 {
				continue
			}
			members[t]++
			if g.targets[i].State.Healthy() {
				healthy[t]++
			}
		}
		if members[t] > 0 {
			good[t] = min(1, healthy[t]/members[t]*h.over)
		}
		sum += good[t]
		all += members[t]
	}
	if sum < 1-1e-9 {
		for t := range l.panics {
			l.panics[t] = members[t] > 0 && healthy[t] < h.panic*members[t]
		}
	}
	left, end := 1.0, 0.0
	for t := range l.ends {
		load := 0.0
		switch {
		case sum >= 1:
			load = min(good[t], left)
		case sum > 0:
			load = good[t] / sum
		case all > 0: // all of them panic, or there is nothing to choose
			load = members[t] / all
		}
		left -= load
		end += load
		l.ends[t] = uint64(end*(1<<32) + 0.5)
		l.several = l.several || load > 0 && load < 1-1e-9
	}
	return l
}
