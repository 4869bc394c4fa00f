// Package balance chooses among the endpoints of a service. A balancer is made for one fixed list of targets; what outlives it, an
// endpoint's health and the requests that it has in flight, is the targets' State. It opens no connections.
package balance

import "sync/atomic"

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

// usable reports whether a target may be picked.
func (t *Target) usable() bool { return t.Weight > 0 && t.State.Healthy() }

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
		return newLeastConnections(targets)
	default:
		return newCycle(targets, inTurn(targets))
	}
}
