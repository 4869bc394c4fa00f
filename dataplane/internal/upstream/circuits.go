package upstream

import (
	"maps"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/dataplane/internal/upstream/circuit"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// circuits is what a registry knows of its services' circuits besides what they know themselves. The registry's mutex
// protects it.
type circuits struct {
	// forced has what was opened by hand, by service id, and until when; zero: until it is reset. It may be of services
	// that are not there yet.
	forced map[string]time.Time
	// told is what was reported of each last.
	told map[string]*streamv1.CircuitStatus
	// sharing shares them with other nodes; nil: nothing does.
	sharing CircuitSharing
	// alone says that the log has it that a circuit is to be shared and can't be.
	alone bool
}

// CircuitSharing shares circuits with other nodes. None of its methods waits for anything.
type CircuitSharing interface {
	// Add shares the circuit of a service, by its id and name. It may be known, with another circuit or name.
	Add(id, service string, c circuit.Circuit)
	// Remove ends that. The service may be unknown.
	Remove(id string)
}

// ShareCircuits has the circuits shared whose settings ask for it. It is called before the first Apply.
func (r *Registry) ShareCircuits(with CircuitSharing) { r.circuits.sharing = with }

// share shares the circuit of a service, or ends that, as its settings say. The mutex is held.
func (r *Registry) share(s *Service) {
	c, set := s.Circuit(), s.current.Load().settings.Circuit
	if c == nil || !set.Shared {
		r.unshare(s.ID)
		return
	}
	if r.circuits.sharing != nil {
		r.circuits.sharing.Add(s.ID, s.Name(), c)
		return
	}
	if !r.circuits.alone {
		r.circuits.alone = true
		r.log.Warn("this node does not share circuits: circuit_breaker_config.shared needs --redis", "service", s.Name())
	}
}

func (r *Registry) unshare(id string) {
	if r.circuits.sharing != nil {
		r.circuits.sharing.Remove(id)
	}
}

// DirectCircuit changes the state of a circuit by hand.
func (r *Registry) DirectCircuit(d *streamv1.CircuitDirective) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	id := d.GetServiceId()
	var c circuit.Circuit
	name := id
	if s := r.services[id]; s != nil {
		c, name = s.Circuit(), s.Name()
	}
	switch d.GetAction() {
	case streamv1.CircuitDirective_ACTION_RESET:
		delete(r.circuits.forced, id)
		if c != nil {
			c.Reset(now)
		}
		r.log.Info("a circuit was reset by hand", "service", name)
	case streamv1.CircuitDirective_ACTION_FORCE_OPEN:
		var until time.Time
		if micros := d.GetOpenMicros(); micros > 0 {
			until = now.Add(time.Duration(min(micros, maxForcedMicros)) * time.Microsecond)
		}
		if r.circuits.forced == nil {
			r.circuits.forced = map[string]time.Time{}
		}
		r.circuits.forced[id] = until
		if c != nil {
			c.ForceOpen(now, until)
		}
		lasts := "until it is reset"
		if !until.IsZero() {
			lasts = until.Sub(now).String()
		}
		r.log.Warn("a circuit was opened by hand", "service", name, "lasts", lasts)
	}
}

// maxForcedMicros keeps times in the range of a duration: a year.
const maxForcedMicros = 365 * 24 * 3600 * 1_000_000

// force opens the circuit of a service that has just got one, where somebody has said so before. The mutex is held.
func (r *Registry) force(s *Service) {
	until, forced := r.circuits.forced[s.ID]
	c := s.Circuit()
	if !forced || c == nil {
		return
	}
	now := time.Now()
	if !over(until, now) && c.Status(now).State != circuit.Forced {
		c.ForceOpen(now, until)
	}
}

// over reports whether a circuit is not forced open any more.
func over(until, now time.Time) bool { return !until.IsZero() && !now.Before(until) }

var circuitStates = map[circuit.State]streamv1.CircuitStatus_State{
	circuit.Closed: streamv1.CircuitStatus_STATE_CLOSED, circuit.Opened: streamv1.CircuitStatus_STATE_OPEN,
	circuit.HalfOpen: streamv1.CircuitStatus_STATE_HALF_OPEN, circuit.Forced: streamv1.CircuitStatus_STATE_FORCED_OPEN,
}

// Circuits returns the circuits of which something has changed since the last call; all asks for every one.
func (r *Registry) Circuits(all bool) (list []*streamv1.CircuitStatus) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.circuits.forced, func(_ string, until time.Time) bool { return over(until, now) })
	told := map[string]*streamv1.CircuitStatus{}
	for id, s := range r.services {
		c := s.Circuit()
		if c == nil {
			continue
		}
		is := circuitStatus(id, c.Status(now))
		if all || !proto.Equal(is, r.circuits.told[id]) {
			list = append(list, is)
		}
		told[id] = is
	}
	for id := range r.circuits.told {
		if told[id] == nil {
			list = append(list, &streamv1.CircuitStatus{ServiceId: id, Gone: true})
		}
	}
	r.circuits.told = told
	return list
}

func circuitStatus(id string, s circuit.Status) *streamv1.CircuitStatus {
	is := &streamv1.CircuitStatus{
		ServiceId: id, State: circuitStates[s.State], Since: timestamppb.New(s.Since), Requests: s.Requests,
		Failed: s.Failed, Slow: s.Slow, Rejected: s.Rejected, Concurrent: uint32(s.Concurrent), Pending: uint32(s.Pending),
		Limit: uint32(s.Limit), MinRttMicros: uint64(s.MinRTT.Microseconds()), P50Micros: uint64(s.P50.Microseconds()),
		P95Micros: uint64(s.P95.Microseconds()), P99Micros: uint64(s.P99.Microseconds()),
	}
	if !s.Until.IsZero() {
		is.Until = timestamppb.New(s.Until)
	}
	return is
}
