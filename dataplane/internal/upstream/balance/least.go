package balance

import "math/rand/v2"

// manyTargets is the number of targets above which least_connections compares two instead of all ("the power of two choices",
// Mitzenmacher 2001), so that a pick costs the same for any number.
const manyTargets = 64

// leastConnections takes the target with the least in flight for its weight. Among equals, such as idle ones, it goes by weight
// in turn.
type leastConnections struct {
	targets []Target
	turn    Balancer
	slots   []uint32 // targets with a weight
}

func newLeastConnections(targets []Target) *leastConnections {
	b := &leastConnections{targets: targets, slots: inTurn(targets)}
	b.turn = newWeighted(targets)
	if _, locked := b.turn.(*smooth); locked {
		b.turn = newCycle(targets, b.slots)
	}
	return b
}

// Pick implements Balancer.
func (b *leastConnections) Pick(avoid int) int {
	best := b.turn.Pick(avoid)
	if best < 0 || best == avoid {
		return best
	}
	if len(b.slots) > manyTargets {
		if i := int(b.slots[rand.IntN(len(b.slots))]); i != avoid && b.less(i, best) {
			return i
		}
		return best
	}
	for k, i := 0, best; k < len(b.targets)-1; k++ {
		if i++; i == len(b.targets) {
			i = 0
		}
		if i != avoid && b.less(i, best) {
			best = i
		}
	}
	return best
}

// less reports whether a target may be picked and has less in flight for its weight than another.
func (b *leastConnections) less(i, j int) bool {
	x, y := &b.targets[i], &b.targets[j]
	return x.usable() && x.State.InFlight()*int64(y.Weight) < y.State.InFlight()*int64(x.Weight)
}
