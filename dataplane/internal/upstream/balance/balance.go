// Package balance chooses among the endpoints of a service. A balancer is made for one fixed list of targets. What outlives the list is the
// targets' State, an endpoint's health and the requests that it has in flight, and the place in the schedule, which the next list's balancer
// takes over. It opens no connections.
package balance

import (
	"slices"
	"sync/atomic"
)

// Reason is a set of reasons why an endpoint gets no requests.
type Reason uint32

const (
	// ChecksFailed tells that active checks say so, or have not said anything yet where an endpoint has to pass one first.
	ChecksFailed Reason = 1 << iota
	// Ejected tells that the endpoint's responses stood out from what is expected of it or from the others'.
	Ejected
	// Draining tells that it shall only finish what it has.
	Draining
)

// State is the live part of an endpoint. It is safe for concurrent use; the zero value is healthy and idle.
type State struct {
	reasons atomic.Uint32 // a Reason
	// changes counts what happens to the health of the targets of the balancer that the state belongs to; nil: it belongs to none.
	changes  atomic.Pointer[atomic.Uint64]
	index    atomic.Uint32 // among that balancer's targets
	_        [40]byte      // health is read by every request, the counter written by every request: not on one cache line
	inFlight atomic.Int64
	_        [56]byte
}

// Healthy reports whether the endpoint may get requests: there is no reason against it.
func (s *State) Healthy() bool { return s.reasons.Load() == 0 }

// Reasons returns why the endpoint gets no requests; 0: it gets them.
func (s *State) Reasons() Reason { return Reason(s.reasons.Load()) }

// Has reports whether all of some reasons are there.
func (r Reason) Has(some Reason) bool { return r&some == some }

// Set says whether some reasons are there; others stay as they are. It returns whether Healthy has changed by it.
func (s *State) Set(some Reason, are bool) (changed bool) {
	if are {
		changed = s.reasons.Or(uint32(some)) == 0
	} else {
		old := Reason(s.reasons.And(^uint32(some)))
		changed = old != 0 && old&^some == 0
	}
	if n := s.changes.Load(); changed && n != nil {
		n.Add(1)
	}
	return changed
}

// SetHealthy takes the verdict of active checks.
func (s *State) SetHealthy(healthy bool) { s.Set(ChecksFailed, !healthy) }

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

// usable reports whether a target may be picked.
func (t *Target) usable() bool { return t.Weight > 0 && t.State.Healthy() }

// Balancer chooses targets. It is safe for concurrent use, takes no lock and does not allocate, except for the first picks after a target's
// health has changed.
type Balancer interface {
	// Pick returns the index of a healthy target that the choice does not exclude, or -1.
	Pick(c Choice) int
}

// New returns a balancer of a kind of load_balancer_type; an unknown kind is round_robin. It goes on where previous is, the balancer of the
// same service so far, or nil: targets are known by their State, and a target that previous owes requests to gets them first. A balancer that
// a later one has been made from may still be picked from.
func New(kind string, targets []Target, previous Balancer) Balancer {
	if b, ok := previous.(interface{ serves(string, []Target) bool }); ok && b.serves(kind, targets) {
		return previous
	}
	switch kind {
	case "weighted_round_robin":
		return newWeighted(targets, previous)
	case "least_connections":
		return newLeastConnections(targets, previous)
	default:
		return newInTurn(targets, previous)
	}
}

// base is what all balancers have in common.
type base struct {
	kind    string
	targets []Target
	// spare deals out what the schedule has for targets that may not be picked.
	spare usable
}

func newBase(kind string, targets []Target) base { return base{kind: kind, targets: targets} }

func (b *base) serves(kind string, targets []Target) bool {
	return b.kind == kind && slices.Equal(b.targets, targets)
}
