package upstream

import (
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream/circuit"
	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/shared/fault"
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

// Admit asks the service's circuit whether an attempt may begin, and takes a place in it then. An attempt that has one
// keeps it.
func (s *Service) Admit(x *exchange.Exchange, p *circuit.Permit) circuit.Verdict {
	c := s.circuit.Load()
	if c == nil || p.Held() {
		return circuit.Admitted
	}
	return (*c).Admit(x.Now, p)
}

// Refuse makes the circuit's verdict the response.
func (s *Service) Refuse(x *exchange.Exchange, why circuit.Verdict) {
	reason := "the service fails, and is not asked for a while"
	if why == circuit.Full {
		reason = "as many requests as the service's circuit allows are under way"
	}
	x.Fail(fault.CircuitOpen, reason)
	if c := s.circuit.Load(); c != nil && x.RPC == exchange.NoRPC {
		after := (*c).RetryAfter(x.Now)
		x.Response.Header.Add("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
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
