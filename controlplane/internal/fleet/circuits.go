package fleet

import (
	"time"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// Forced is a circuit that was opened by hand.
type Forced struct {
	// Until is when that ends; zero: when it is reset.
	Until time.Time
}

func (f Forced) over(now time.Time) bool { return !f.Until.IsZero() && !now.Before(f.Until) }

// directive returns what nodes are told.
func (f Forced) directive(serviceID string, now time.Time) *streamv1.Directive {
	d := &streamv1.CircuitDirective{ServiceId: serviceID, Action: streamv1.CircuitDirective_ACTION_FORCE_OPEN}
	if !f.Until.IsZero() {
		d.OpenMicros = uint64(max(f.Until.Sub(now).Microseconds(), 1))
	}
	return &streamv1.Directive{Action: &streamv1.Directive_Circuit{Circuit: d}}
}

// MaxForced is how many circuits may be forced open at a time.
const MaxForced = 10_000

// ForceOpen has all nodes open a service's circuit, and those that connect later. It returns how many are told now; ok
// is false where too many are forced open already.
func (f *Fleet) ForceOpen(serviceID string, forced Forced) (nodes int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.forgetForced(now)
	if _, is := f.forced[serviceID]; !is && len(f.forced) >= MaxForced {
		return 0, false
	}
	f.forced[serviceID] = forced
	return f.direct(circuitOf(serviceID), forced.directive(serviceID, now)), true
}

// ResetCircuit has all nodes close a service's circuit. It returns how many are told.
func (f *Fleet) ResetCircuit(serviceID string) (nodes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.forced, serviceID)
	f.remember(serviceID, time.Now())
	return f.direct(circuitOf(serviceID), reset(serviceID))
}

func reset(serviceID string) *streamv1.Directive {
	d := &streamv1.CircuitDirective{ServiceId: serviceID, Action: streamv1.CircuitDirective_ACTION_RESET}
	return &streamv1.Directive{Action: &streamv1.Directive_Circuit{Circuit: d}}
}

// remember keeps in mind that a circuit was reset, for nodes that are not connected; the caller holds mu.
func (f *Fleet) remember(serviceID string, now time.Time) {
	f.resets[serviceID] = now
	if len(f.resets) <= MaxForced {
		return
	}
	oldest := ""
	for id, at := range f.resets {
		if id != serviceID && (oldest == "" || at.Before(f.resets[oldest])) {
			oldest = id
		}
		if now.Sub(at) > remembered {
			delete(f.resets, id)
		}
	}
	if len(f.resets) > MaxForced {
		delete(f.resets, oldest)
	}
}

// resetMissed has a node close a circuit that it says is forced open since before it was reset: the node was not
// connected then. The caller holds mu.
func (s *Session) resetMissed(c *streamv1.CircuitStatus) {
	at, was := s.fleet.resets[c.GetServiceId()]
	if !was || c.GetGone() || c.GetState() != streamv1.CircuitStatus_STATE_FORCED_OPEN {
		return
	}
	if _, is := s.fleet.forced[c.GetServiceId()]; !is && c.GetSince().AsTime().Before(at) {
		s.direct(circuitOf(c.GetServiceId()), reset(c.GetServiceId()))
	}
}

// Circuits returns a service's circuit on each connected node, by node id, and whether it is forced open.
func (f *Fleet) Circuits(serviceID string) (nodes map[string]*streamv1.CircuitStatus, forced Forced, is bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgetForced(time.Now())
	nodes = map[string]*streamv1.CircuitStatus{}
	for id, n := range f.nodes {
		if c := n.circuits[serviceID]; c != nil {
			nodes[id] = c
		}
	}
	forced, is = f.forced[serviceID]
	return nodes, forced, is
}

// forgetForced drops what is over; the caller holds mu.
func (f *Fleet) forgetForced(now time.Time) {
	for id, one := range f.forced {
		if one.over(now) {
			delete(f.forced, id)
		}
	}
}

// directAll tells a new node what is forced open; the caller holds mu.
func (f *Fleet) directAll(s *Session, now time.Time) {
	for id, one := range f.forced {
		if !one.over(now) {
			s.direct(circuitOf(id), one.directive(id, now))
		}
	}
}
