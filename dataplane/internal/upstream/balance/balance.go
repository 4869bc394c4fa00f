// Package balance chooses among the endpoints of a service. A balancer is made for one fixed list of targets; what outlives it, an
// endpoint's health and the requests that it has in flight, is the targets' State. It opens no connections.
package balance

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// State is the live part of an endpoint. It is safe for concurrent use; the zero value is healthy and idle.
type State struct {
	unhealthy atomic.Bool
	_         [56]byte // health is read by every request, the counter written by every request: not on one cache line
	inFlight  atomic.Int64
	_         [56]byte
}

// Healthy reports whether the endpoint may get requests.
func (s *State) Healthy() bool { return !s.unhealthy.Load() }

// SetHealthy sets it.
func (s *State) SetHealthy(healthy bool) { s.unhealthy.Store(!healthy) }

// InFlight returns the number of requests that the endpoint has not answered yet.
func (s *State) InFlight() int64 { return s.inFlight.Load() }

// Add changes the number of requests in flight.
func (s *State) Add(n int64) { s.inFlight.Add(n) }

// Target is an endpoint as balancers see it.
type Target struct {
	// State is the endpoint's.
	State *State
	// Weight is its share, 0 to 1000; 0 gets nothing.
	Weight uint32
}

// Balancer chooses targets. It is safe for concurrent use and does not allocate.
type Balancer interface {
	// Pick returns the index of a healthy target that avoid does not name, or -1. avoid is the index of a target that has just
	// failed, or -1; it is chosen all the same when it is the only one.
	Pick(avoid int) int
}

// New returns a balancer of a kind of load_balancer_type; an unknown kind is round_robin.
func New(kind string, targets []Target) Balancer {
	switch kind {
	case "weighted_round_robin":
		return newWeighted(targets)
	case "least_connections":
		return &leastConnections{targets: targets}
	default:
		return &roundRobin{targets: targets}
	}
}

type roundRobin struct {
	targets []Target
	next    atomic.Uint64
}

func (b *roundRobin) Pick(avoid int) int {
	n := uint64(len(b.targets))
	if n == 0 {
		return -1
	}
	start := b.next.Add(1)
	return scan(int(start%n), len(b.targets), avoid, func(i int) bool {
		t := &b.targets[i]
		return t.Weight > 0 && t.State.Healthy()
	})
}

// scan returns the first index from start on that usable allows, avoid last.
func scan(start, n, avoid int, usable func(i int) bool) int {
	fallback := -1
	for k := range n {
		i := start + k
		if i >= n {
			i -= n
		}
		if usable(i) {
			if i != avoid {
				return i
			}
			fallback = i
		}
	}
	return fallback
}

// maxSchedule is the longest period of a weighted schedule that is worked out beforehand.
const maxSchedule = 4096

// weighted spreads as nginx's smooth weighted round robin does: over a period of the sum of weights every target comes up just
// as often as its weight says, and as evenly spaced as can be. The period is worked out when the balancer is made, so
// that a pick is one atomic addition; where it would be too long, or targets are unhealthy, the algorithm itself runs under a lock.
type weighted struct {
	targets  []Target
	schedule []uint16
	next     atomic.Uint64

	mu      sync.Mutex
	current []int64
}

func newWeighted(targets []Target) *weighted {
	b := &weighted{targets: targets, current: make([]int64, len(targets))}
	divisor, sum := uint32(0), uint64(0)
	for _, t := range targets {
		divisor = gcd(divisor, t.Weight)
	}
	if divisor == 0 {
		return b
	}
	for _, t := range targets {
		sum += uint64(t.Weight / divisor)
	}
	if sum > maxSchedule || len(targets) > 1<<16 {
		return b
	}
	for range sum {
		b.schedule = append(b.schedule, uint16(b.smooth(-1, func(int) bool { return true })))
	}
	return b
}

func gcd(a, b uint32) uint32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// smooth raises every usable target by its weight, and takes the highest and lowers it by the sum.
func (b *weighted) smooth(avoid int, usable func(i int) bool) int {
	best, total := -1, int64(0)
	for i := range b.targets {
		w := int64(b.targets[i].Weight)
		if w == 0 || i == avoid || !usable(i) {
			continue
		}
		total += w
		b.current[i] += w
		if best < 0 || b.current[i] > b.current[best] {
			best = i
		}
	}
	if best >= 0 {
		b.current[best] -= total
	}
	return best
}

func (b *weighted) Pick(avoid int) int {
	if n := uint64(len(b.schedule)); n > 0 {
		i := int(b.schedule[(b.next.Add(1)-1)%n])
		if i != avoid && b.targets[i].State.Healthy() {
			return i
		}
	}
	healthy := func(i int) bool { return b.targets[i].State.Healthy() }
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := b.smooth(avoid, healthy); i >= 0 {
		return i
	}
	return b.smooth(-1, healthy)
}

// manyTargets is the number of targets above which least_connections compares two at random instead of all.
const manyTargets = 64

type leastConnections struct {
	targets []Target
	next    atomic.Uint64
}

func (b *leastConnections) Pick(avoid int) int {
	n := len(b.targets)
	if n == 0 {
		return -1
	}
	if n > manyTargets {
		if i := b.better(rand.IntN(n), rand.IntN(n), avoid); i >= 0 {
			return i
		}
	}
	start := int(b.next.Add(1) % uint64(n))
	best := -1
	for k := range n {
		i := start + k
		if i >= n {
			i -= n
		}
		best = b.better(best, i, avoid)
	}
	if best < 0 && avoid >= 0 {
		return b.better(-1, avoid, -1)
	}
	return best
}

// better returns which of two has less in flight for its weight; -1 when neither may be used.
func (b *leastConnections) better(i, j, avoid int) int {
	usable := func(i int) bool {
		return i >= 0 && i != avoid && b.targets[i].Weight > 0 && b.targets[i].State.Healthy()
	}
	switch ui, uj := usable(i), usable(j); {
	case !ui && !uj:
		return -1
	case !ui:
		return j
	case !uj:
		return i
	}
	x, y := &b.targets[i], &b.targets[j]
	if (y.State.InFlight()+1)*int64(x.Weight) < (x.State.InFlight()+1)*int64(y.Weight) {
		return j
	}
	return i
}
