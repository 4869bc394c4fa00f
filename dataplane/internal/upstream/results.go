package upstream

import (
	"slices"
	"sync/atomic"

	"gateway.internal/dataplane/internal/upstream/circuit"
	"gateway.internal/dataplane/internal/upstream/outcome"
)

// Result is how an attempt at one of a service's endpoints ended.
type Result struct {
	outcome.Result
	Service  *Service
	Endpoint *Endpoint
	// Permit is the attempt's place in the service's circuit.
	Permit circuit.Permit
}

// Observer learns from the results of a service's attempts.
type Observer interface {
	// Ended is called once for each attempt, by its goroutine or loop, many at the same time: it may neither wait nor
	// allocate. The result is the caller's again afterwards.
	Ended(*Result)
}

// observers is who is told of a service's results. It is immutable.
type observers []Observer

// Observe has o told of all results from now on, until stop is called. It outlives changes of the configuration.
func (s *Service) Observe(o Observer) (stop func()) {
	s.changeObservers(func(all observers) observers { return append(all, o) })
	return func() {
		s.changeObservers(func(all observers) observers {
			if i := slices.Index(all, o); i >= 0 {
				all = slices.Delete(all, i, i+1)
			}
			return all
		})
	}
}

// changeObservers replaces the list by what change makes of a copy.
func (s *Service) changeObservers(change func(observers) observers) {
	for {
		old := s.observers.Load()
		var next observers
		if old != nil {
			next = slices.Clone(*old)
		}
		to := &next
		if next = change(next); len(next) == 0 {
			to = nil
		}
		if s.observers.CompareAndSwap(old, to) {
			return
		}
	}
}

// Ended tells who learns from it how an attempt ended. It is called once for each.
func (s *Service) Ended(r *Result) {
	r.Permit.Ended(&r.Result)
	if all := s.observers.Load(); all != nil {
		for _, o := range *all {
			o.Ended(r)
		}
	}
}

// learning is what a service knows of its results.
type learning struct {
	circuit   atomic.Pointer[circuit.Circuit] // nil: none
	observers atomic.Pointer[observers]       // nil: nobody
}
