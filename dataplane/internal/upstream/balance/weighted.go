package balance

import "sync"

// maxSchedule is the longest period of a weighted schedule that is worked out beforehand.
const maxSchedule = 4096

// newWeighted spreads as nginx's smooth weighted round robin does: over a period of the sum of weights every target comes up just
// as often as its weight says, and as evenly spaced as can be. The period is worked out here, so that a pick is one atomic
// addition; only where it would be too long does the algorithm itself run under a lock.
func newWeighted(targets []Target) Balancer {
	divisor, sum := uint32(0), uint64(0)
	for _, t := range targets {
		divisor = gcd(divisor, t.Weight)
	}
	if divisor == 0 {
		return newCycle(targets, nil)
	}
	equal := true
	for _, t := range targets {
		sum += uint64(t.Weight / divisor)
		equal = equal && (t.Weight == 0 || t.Weight == divisor)
	}
	if equal { // any number of them: their period is themselves, in turn
		return newCycle(targets, inTurn(targets))
	}
	s := &smooth{targets: targets, current: make([]int64, len(targets))}
	if sum > maxSchedule {
		return s
	}
	slots := make([]uint32, sum)
	for k := range slots {
		slots[k] = uint32(s.step(-1, func(*Target) bool { return true }))
	}
	return newCycle(targets, slots)
}

func gcd(a, b uint32) uint32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// smooth is nginx's algorithm (ngx_http_upstream_get_peer): every pick raises each usable target by its weight, takes the highest
// and lowers it by the sum.
type smooth struct {
	targets []Target

	mu      sync.Mutex
	current []int64
}

// Pick implements Balancer.
func (s *smooth) Pick(avoid int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.step(avoid, (*Target).usable); i >= 0 {
		return i
	}
	return s.step(-1, (*Target).usable)
}

func (s *smooth) step(avoid int, usable func(*Target) bool) int {
	best, total := -1, int64(0)
	for i := range s.targets {
		t := &s.targets[i]
		if t.Weight == 0 || i == avoid || !usable(t) {
			continue
		}
		total += int64(t.Weight)
		s.current[i] += int64(t.Weight)
		if best < 0 || s.current[i] > s.current[best] {
			best = i
		}
	}
	if best >= 0 {
		s.current[best] -= total
	}
	return best
}
