package balance

import "slices"

const (
	// maxSchedule is the longest period of a weighted schedule that is worked out beforehand, in slots.
	maxSchedule = 4096
	// maxWork bounds what working a schedule out may cost: the product of its period and the number of targets.
	maxWork = 1 << 20
)

// newWeighted spreads as nginx's smooth weighted round robin does: over a period of the sum of weights every target
// comes up just as often as its weight says, and as evenly spaced as can be. The period is worked out here, so that a
// pick is one atomic addition. Where it would be too long, a rotation takes its place.
func newWeighted(in *group, previous Strategy) Strategy {
	targets := in.targets
	divisor, sum := uint32(0), uint64(0)
	for _, t := range targets {
		divisor = gcd(divisor, t.Weight)
	}
	if divisor == 0 {
		return newCycle(in, true, nil, nil, nil, previous)
	}
	equal := true
	for _, t := range targets {
		sum += uint64(t.Weight / divisor)
		equal = equal && (t.Weight == 0 || t.Weight == divisor)
	}
	if equal { // any number of them: their period is themselves, in turn
		owed := owedTo(targets, previous, true)
		return newCycle(in, true, nil, inTurn(targets, owed), owed, previous)
	}
	if sum > maxSchedule || sum*uint64(len(targets)) > maxWork {
		return newRotation(in, divisor, previous)
	}
	owed := owedTo(targets, previous, false)
	var first []uint32
	if slices.ContainsFunc(owed, owes) {
		first = smooth(targets, divisor, sum, owed)
	}
	return newCycle(in, false, first, smooth(targets, divisor, sum, nil), owed, previous)
}

func gcd[T uint32 | uint64](a, b T) T {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// smooth works a period out by nginx's algorithm (ngx_http_upstream_get_peer): every slot raises each target by its
// weight, goes to the highest and lowers it by the sum. The targets begin as high as they are owed.
func smooth(targets []Target, divisor uint32, sum uint64, owed []float64) []uint32 {
	weights, current := make([]float64, len(targets)), make([]float64, len(targets))
	for i, t := range targets {
		weights[i] = float64(t.Weight / divisor)
		if owed != nil {
			current[i] = owed[i] * float64(sum)
		}
	}
	slots := make([]uint32, sum)
	for k := range slots {
		best := -1
		for i, w := range weights {
			if w == 0 {
				continue
			}
			current[i] += w
			if best < 0 || current[i] > current[best]+1e-6 {
				best = i
			}
		}
		current[best] -= float64(sum)
		slots[k] = uint32(best)
	}
	return slots
}
