package balance

import "sync/atomic"

// maxDraws is how many slots are looked at for a usable target before the shares of those that are left are counted out.
const maxDraws = 16

// ticket is a counter on a cache line of its own: every request writes it, and what lies beside it every request reads.
type ticket struct {
	_ [56]byte
	n atomic.Uint64
	_ [56]byte
}

func (t *ticket) take() uint64 { return t.n.Add(1) - 1 }

// cycle walks a fixed schedule of targets, one slot for each pick. The slots of targets that may not be picked are dealt out by a
// walk of their own over the same schedule: what is left shares them by weight, where the next slot's target would get them all.
type cycle struct {
	targets []Target
	slots   []uint32
	next    ticket // of picks
	spare   ticket // of draws for slots that can't be used
	counted ticket // of turns among the counted; spare moves on by maxDraws between them, which would favour some
}

func newCycle(targets []Target, slots []uint32) *cycle { return &cycle{targets: targets, slots: slots} }

// inTurn is the schedule in which every target with a weight has one slot.
func inTurn(targets []Target) []uint32 {
	slots := make([]uint32, 0, len(targets))
	for i := range targets {
		if targets[i].Weight > 0 {
			slots = append(slots, uint32(i))
		}
	}
	return slots
}

// Pick implements Balancer.
func (c *cycle) Pick(avoid int) int {
	n := uint64(len(c.slots))
	if n == 0 {
		return -1
	}
	if i := int(c.slots[c.next.take()%n]); i != avoid && c.targets[i].State.Healthy() {
		return i
	}
	return c.deal(avoid)
}

// deal gives away a slot whose target may not be picked.
func (c *cycle) deal(avoid int) int {
	n := uint64(len(c.slots))
	for range maxDraws {
		if i := int(c.slots[c.spare.take()%n]); i != avoid && c.targets[i].State.Healthy() {
			return i
		}
	}
	// Few are left: count their slots and take the one whose turn it is. Health may change between the two walks, so the last
	// that was seen will do.
	usable := uint64(0)
	for _, slot := range c.slots {
		if int(slot) != avoid && c.targets[slot].State.Healthy() {
			usable++
		}
	}
	last := -1
	if usable > 0 {
		turn := c.counted.take() % usable
		for _, slot := range c.slots {
			if int(slot) == avoid || !c.targets[slot].State.Healthy() {
				continue
			}
			last = int(slot)
			if turn == 0 {
				return last
			}
			turn--
		}
	}
	if last < 0 && avoid >= 0 && avoid < len(c.targets) && c.targets[avoid].usable() {
		return avoid
	}
	return last
}
