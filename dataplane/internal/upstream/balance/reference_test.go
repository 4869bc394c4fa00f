package balance

import "sync"

// reference is nginx's algorithm as it stands, under a lock: every pick raises each usable target by its weight, takes
// the highest and lowers it by the sum. It is what schedules and benchmarks are compared with.
type reference struct {
	targets []Target

	mu      sync.Mutex
	current []int64
}

func newReference(targets []Target) *reference {
	return &reference{targets: targets, current: make([]int64, len(targets))}
}

// Pick implements Strategy.
func (s *reference) Pick(c Choice) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	best, total := -1, int64(0)
	for i := range s.targets {
		t := &s.targets[i]
		if t.Weight == 0 || !c.allows(t.State) {
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
