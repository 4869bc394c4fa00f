package balance

import (
	"math"
	"sync/atomic"
	"time"
)

// epoch is when the process began, nearly.
var epoch = time.Now()

// Moment returns a time as a number of nanoseconds of the monotonic clock, which fits into an atomic. It is never 0
// but by chance.
func Moment(t time.Time) int64 { return int64(t.Sub(epoch)) }

// Reason is a set of reasons why an endpoint gets no requests.
type Reason uint32

const (
	// ChecksFailed tells that active checks say so, or have not said anything yet where an endpoint has to pass one
	// first.
	ChecksFailed Reason = 1 << iota
	// Ejected tells that the endpoint's responses stood out from what is expected of it or from the others'.
	Ejected
	// Draining tells that it shall only finish what it has.
	Draining
)

// State is the live part of an endpoint. It is safe for concurrent use; the zero value is healthy and idle.
type State struct {
	reasons atomic.Uint32 // a Reason
	// changes counts what happens to the health of the targets of the balancer that the state belongs to; nil: it
	// belongs to none.
	changes  atomic.Pointer[atomic.Uint64]
	index    atomic.Uint32 // among that balancer's targets
	begun    atomic.Int64  // when it became healthy, as [Moment] has it; 0: long ago
	_        [32]byte      // health is read by every request, what follows is written by every request: not on one line
	inFlight atomic.Int64
	latency  latency
	_        [40]byte
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
	if !changed {
		return false
	}
	if s.Healthy() {
		s.Begin()
	}
	if n := s.changes.Load(); n != nil {
		n.Add(1)
	}
	return true
}

// SetHealthy takes the verdict of active checks.
func (s *State) SetHealthy(healthy bool) { s.Set(ChecksFailed, !healthy) }

// InFlight returns the number of requests that the endpoint has not answered yet.
func (s *State) InFlight() int64 { return s.inFlight.Load() }

// Add changes the number of requests in flight.
func (s *State) Add(n int64) { s.inFlight.Add(n) }

// Begin begins the slow start of an endpoint that is new. One that becomes healthy begins by itself.
func (s *State) Begin() { s.BeganAt(time.Now()) }

// BeganAt tells when the endpoint became healthy.
func (s *State) BeganAt(t time.Time) { s.begun.Store(Moment(t)) }

// age returns how long an endpoint has been healthy, in nanoseconds.
func (s *State) age(now int64) int64 {
	if begun := s.begun.Load(); begun != 0 {
		return now - begun
	}
	return math.MaxInt64
}
