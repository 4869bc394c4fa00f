package balance

import "math/bits"

// manyTargets is the number of targets above which least_connections compares two instead of all ("the power of two
// choices", Mitzenmacher 2001), so that a pick costs the same for any number.
const manyTargets = 64

// leastConnections takes the target with the least in flight for its weight. Equals, such as idle ones, share by
// weight.
type leastConnections struct {
	*group
	turn  Strategy // of all, by weight
	spare *usable  // turn's
	ties  ticket   // of draws among equals
}

func newLeastConnections(in *group, previous Strategy) *leastConnections {
	b := &leastConnections{group: in, turn: newWeighted(in, previous)}
	b.spare = &schedulerOf(b.turn).common().spare
	b.ties.n.Store(drawOf(in.begin))
	if p, ok := previous.(*leastConnections); ok {
		b.ties.n.Store(p.ties.n.Load())
	}
	return b
}

// Pick implements Strategy.
func (b *leastConnections) Pick(c Choice) int {
	best := b.turn.Pick(c)
	if best < 0 {
		return best
	}
	if len(b.targets) > manyTargets {
		if i := b.spare.random(c); i >= 0 && b.less(i, best, c.Now) {
			return i
		}
		return best
	}
	turn, least := best, b.targets[best].State.InFlight()
	if least <= 0 {
		return best // none has less
	}
	// Those that are equal to the best share by weight: the next one in the list would get what is another one's turn.
	weight := b.weight(best, c.Now)
	shares := weight
	for i := range b.targets {
		t := &b.targets[i]
		if i == turn || t.Weight == 0 || !c.allows(t.State) {
			continue
		}
		n, w := max(t.State.InFlight(), 0), b.weight(i, c.Now)
		switch a, b := uint64(n)*weight, uint64(least)*w; {
		case a < b:
			best, least, weight, shares = i, n, w, w
		case best != turn && a == b:
			shares += w
		}
	}
	if best == turn {
		return best
	}
	return b.among(best, c, shares)
}

// among chooses by weight among the targets that have no more in flight than best.
func (b *leastConnections) among(best int, c Choice, shares uint64) int {
	place, _ := bits.Mul64(b.ties.take()*golden, shares)
	chosen, passed := best, uint64(0)
	for i := best; i < len(b.targets) && passed <= place; i++ { // best is the first of them
		if t := &b.targets[i]; t.Weight > 0 && c.allows(t.State) && !b.less(best, i, c.Now) {
			chosen, passed = i, passed+b.weight(i, c.Now)
		}
	}
	return chosen
}

// less reports whether a target has less in flight for its weight than another.
func (b *leastConnections) less(i, j int, now int64) bool {
	x, y := b.targets[i].State.InFlight(), b.targets[j].State.InFlight()
	return uint64(max(x, 0))*b.weight(j, now) < uint64(max(y, 0))*b.weight(i, now)
}

// weight returns a target's weight by now, above 0 where it has one.
func (b *leastConnections) weight(i int, now int64) uint64 {
	if b.slow.Window == 0 {
		return uint64(b.targets[i].Weight)
	}
	return b.grownWeight(i, now)
}

func (b *leastConnections) grownWeight(i int, now int64) uint64 {
	t := &b.targets[i]
	return max(uint64(float64(t.Weight)*1024*b.spare.grown(t.State, now)), 1)
}
