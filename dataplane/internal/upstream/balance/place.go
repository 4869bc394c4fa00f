package balance

import (
	"cmp"
	"slices"
)

// scheduler is a balancer with a schedule that the next one of its service can go on with.
type scheduler interface {
	// debts returns what the schedule owes to each target by now, in requests: its share of those that were picked for,
	// less those that it was picked for. Picks that the spare ones of others made up for count as had. nil: the schedule
	// does not know.
	debts() []float64
	// at returns the place in the schedule, in units of 2^-64 of it.
	at() uint64
	common() *base
}

// common implements scheduler.
func (b *base) common() *base { return b }

func schedulerOf(b Strategy) scheduler {
	if l, ok := b.(*leastConnections); ok {
		b = l.turn
	}
	s, _ := b.(scheduler)
	return s
}

// spareOf returns how many spare slots the previous balancer has dealt out, whether it has a schedule or not: where
// targets change with each request, a balancer that began anew would always choose the same one. Where there is none
// before, it is as many as lead to the place where the group begins.
func spareOf(previous Strategy, in *group) uint64 {
	if l, ok := previous.(*leastConnections); ok {
		previous = l.turn
	}
	if s, ok := previous.(interface{ common() *base }); ok {
		return s.common().spare.turn.n.Load()
	}
	return drawOf(in.begin)
}

// drawOf returns the number of the first draw for a place to begin at. It leaves room for all that follow.
func drawOf(begin uint64) uint64 { return begin >> 32 }

// beginAt turns a schedule of slots so that it begins at a place.
func beginAt(slots []uint32, begin uint64) []uint32 {
	at := scale(begin, uint64(len(slots)))
	return slices.Concat(slots[at:], slots[:at])
}

// owedTo returns what the previous balancer owes to these targets: 0 in sum, and to new ones what is left, by share.
// equal tells that weights don't count. nil: nothing.
func owedTo(targets []Target, previous Strategy, equal bool) []float64 {
	s := schedulerOf(previous)
	if s == nil {
		return nil
	}
	debts := s.debts()
	if debts == nil {
		return nil
	}
	known := make(map[*State]float64, len(debts))
	for i, t := range s.common().targets {
		known[t.State] = debts[i]
	}
	owed := make([]float64, len(targets))
	sum, shares := 0.0, 0.0
	for i, t := range targets {
		if t.Weight > 0 {
			owed[i] = known[t.State]
			sum += owed[i]
			shares += share(t, equal)
		}
	}
	for i, t := range targets {
		if t.Weight > 0 {
			owed[i] -= sum * share(t, equal) / shares
		}
	}
	return owed
}

func share(t Target, equal bool) float64 {
	if equal {
		return 1
	}
	return float64(t.Weight)
}

// owes reports whether a debt is one: what is nearly nothing comes of calculating with fractions.
func owes(debt float64) bool { return debt > 1e-6 || debt < -1e-6 }

// inTurn is the schedule in which every target with a weight has one slot, those with the greatest debts first.
func inTurn(targets []Target, owed []float64) []uint32 {
	slots := make([]uint32, 0, len(targets))
	for i := range targets {
		if targets[i].Weight > 0 {
			slots = append(slots, uint32(i))
		}
	}
	if slices.ContainsFunc(owed, owes) {
		slices.SortStableFunc(slots, func(a, b uint32) int {
			if d := owed[b] - owed[a]; owes(d) {
				return cmp.Compare(owed[b], owed[a])
			}
			return 0
		})
	}
	return slots
}
