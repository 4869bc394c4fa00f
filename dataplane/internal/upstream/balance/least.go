package balance

import (
	"math/bits"
	"math/rand/v2"
)

// manyTargets is the number of targets above which least_connections compares two instead of all ("the power of two choices",
// Mitzenmacher 2001), so that a pick costs the same for any number.
const manyTargets = 64

// leastConnections takes the target with the least in flight for its weight. Equals, such as idle ones, share by weight.
type leastConnections struct {
	kind    string
	targets []Target
	turn    Balancer // of all, by weight
	spare   *usable  // turn's
	ties    ticket   // of draws among equals
}

func newLeastConnections(targets []Target, previous Balancer) *leastConnections {
	b := &leastConnections{kind: "least_connections", targets: targets, turn: newWeighted(targets, previous)}
	b.spare = &schedulerOf(b.turn).common().spare
	if p, ok := previous.(*leastConnections); ok {
		b.ties.n.Store(p.ties.n.Load())
	}
	return b
}

func (b *leastConnections) serves(kind string, targets []Target) bool {
	return b.kind == kind && schedulerOf(b.turn).common().serves("weighted_round_robin", targets)
}

// Pick implements Balancer.
func (b *leastConnections) Pick(c Choice) int {
	best := b.turn.Pick(c)
	if best < 0 {
		return best
	}
	if len(b.targets) > manyTargets {
		if i := b.spare.random(rand.Uint64(), c); i >= 0 && b.less(i, best) {
			return i
		}
		return best
	}
	// Those that are equal to the best share by weight: the next one in the list would get what is another one's turn.
	turn, weights := best, uint64(b.targets[best].Weight)
	for i := range b.targets {
		switch t := &b.targets[i]; {
		case i == turn || t.Weight == 0 || !c.allows(t.State):
		case b.less(i, best):
			best, weights = i, uint64(t.Weight)
		case best != turn && !b.less(best, i):
			weights += uint64(t.Weight)
		}
	}
	if best == turn {
		return best
	}
	return b.among(best, c, weights)
}

// among chooses by weight among the targets that have no more in flight than best.
func (b *leastConnections) among(best int, c Choice, weights uint64) int {
	place, _ := bits.Mul64(b.ties.take()*golden, weights)
	chosen, passed := best, uint64(0)
	for i := best; i < len(b.targets) && passed <= place; i++ { // best is the first of them
		if t := &b.targets[i]; t.Weight > 0 && c.allows(t.State) && !b.less(best, i) {
			chosen, passed = i, passed+uint64(t.Weight)
		}
	}
	return chosen
}

// less reports whether a target has less in flight for its weight than another.
func (b *leastConnections) less(i, j int) bool {
	x, y := &b.targets[i], &b.targets[j]
	return x.State.InFlight()*int64(y.Weight) < y.State.InFlight()*int64(x.Weight)
}
