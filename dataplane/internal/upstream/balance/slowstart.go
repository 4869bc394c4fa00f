package balance

import (
	"math"
	"math/rand/v2"
	"time"
)

// SlowStart is how the share of a target grows after it was added or became healthy, as Envoy has it.
type SlowStart struct {
	// Window is how long it takes; 0: the target has its share at once.
	Window time.Duration
	// Aggression is above 0: with 1 the share grows evenly, above that fast at first, and below slowly.
	Aggression float64
	// Least is the share that it begins with, 0 to 1.
	Least float64
}

// factor returns what the share is multiplied by after a time.
func (s *SlowStart) factor(after int64) float64 {
	switch {
	case after >= int64(s.Window):
		return 1
	case after <= 0:
		return s.Least
	}
	f := float64(after) / float64(s.Window)
	if s.Aggression != 1 {
		f = math.Pow(f, 1/s.Aggression)
	}
	return max(f, s.Least)
}

// grown returns what the share of a target is multiplied by. Where all of the group's are in their slow start, the
// one that began first has its whole share already.
func (u *usable) grown(s *State, now int64) float64 {
	after := s.age(now)
	if u.slow.Window == 0 || after >= int64(u.slow.Window) {
		return 1
	}
	f := u.slow.factor(after)
	if oldest := now - u.current().oldest; oldest < int64(u.slow.Window) {
		f /= u.slow.factor(oldest)
	}
	return min(f, 1)
}

// accepts draws whether a target that is in its slow start gets a request that its share at the end would give it.
func (u *usable) accepts(s *State, now int64) bool {
	return u.slow.Window == 0 || u.lucky(s, now)
}

func (u *usable) lucky(s *State, now int64) bool {
	f := u.grown(s, now)
	return f >= 1 || rand.Float64() < f
}
