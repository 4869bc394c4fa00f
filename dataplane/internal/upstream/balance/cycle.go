package balance

// cycle walks a fixed schedule of targets, one slot for each pick. The slots of targets that may not be picked are
// dealt out among the others by weight, where the next slot's target would get them all.
type cycle struct {
	base
	// first are the slots before those that come round again and again: they give targets what the balancer before this
	// one owed to them.
	first, slots []uint32
	owed         []float64 // to each target at the beginning, in requests
	next         ticket    // of picks
}

// newCycle returns a cycle of slots, which has all that is to be known but where it begins. equal tells that weights
// don't count.
func newCycle(in *group, equal bool, first, slots []uint32, owed []float64, previous Strategy) *cycle {
	if schedulerOf(previous) == nil {
		slots = beginAt(slots, in.begin)
	}
	c := &cycle{base: base{group: in}, first: first, slots: slots, owed: owed}
	c.spare.watch(in, equal)
	c.spare.turn.n.Store(spareOf(previous, in))
	return c
}

// newInTurn returns a balancer for which every target with a weight has one slot. Those that are owed most come first,
// others in their order.
func newInTurn(in *group, previous Strategy) *cycle {
	owed := owedTo(in.targets, previous, true)
	return newCycle(in, true, nil, inTurn(in.targets, owed), owed, previous)
}

// Pick implements Strategy.
func (c *cycle) Pick(of Choice) int {
	n := uint64(len(c.slots))
	if n == 0 {
		return -1
	}
	k := c.next.take()
	var i int
	if before := uint64(len(c.first)); k < before {
		i = int(c.first[k])
	} else {
		i = int(c.slots[(k-before)%n])
	}
	if s := c.targets[i].State; of.allows(s) && c.spare.accepts(s, of.Now) {
		return i
	}
	return c.spare.pick(of)
}

// debts implements scheduler.
func (c *cycle) debts() []float64 {
	debts := make([]float64, len(c.targets))
	copy(debts, c.owed)
	period := len(c.slots)
	if period == 0 {
		return debts
	}
	share := make([]float64, len(c.targets))
	for _, i := range c.slots {
		share[i]++
	}
	walk := func(slots []uint32) {
		for _, i := range slots {
			debts[i]--
		}
		for i := range debts {
			debts[i] += share[i] * float64(len(slots)) / float64(period)
		}
	}
	k := c.next.n.Load()
	if before := uint64(len(c.first)); k < before {
		walk(c.first[:k])
	} else {
		walk(c.first)
		walk(c.slots[:(k-before)%uint64(period)])
	}
	return debts
}

// at implements scheduler.
func (c *cycle) at() uint64 { return c.next.n.Load() * golden }
