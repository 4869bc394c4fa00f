package upstream

import (
	"time"

	"gateway.internal/dataplane/internal/upstream/balance"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// tier returns the tier of an endpoint: that of its priority, and within it the node's own zone before the others.
func (s *Service) tier(set *config.Balancing, e *configv1.Endpoint) uint16 {
	tier := 2 * uint16(set.Priority(e))
	if zone := s.labels[set.ZoneLabel]; set.ZoneLabel != "" && zone != "" && e.GetLabels()[set.ZoneLabel] != zone {
		tier++
	}
	return tier
}

// latencies tells endpoints how long they took, for strategies that go by it.
type latencies struct{ decay time.Duration }

// Ended implements Observer. What a request waited for a connection counts: it is what the next one would wait for.
func (l *latencies) Ended(r *Result) {
	if r.Telling() {
		r.Endpoint.State.Observe(r.Took, r.Failed(), balance.Moment(r.Begun.Add(r.Took)), l.decay)
	}
}

// observe has what became of requests told to the balancer, where it asks for that.
func (s *Service) observe(c *current) {
	if s.unobserve != nil {
		s.unobserve()
		s.unobserve = nil
	}
	if c.balancer.Observes() {
		s.unobserve = s.Observe(&latencies{c.settings.Balancing.DecayTime})
	}
}

// balance sets the balancer, which goes on where the one before it is, or begins at a place of its schedule.
func (c *current) balance(targets []balance.Target, before *balance.Balancer, begin uint64) {
	set := &c.settings.Balancing
	c.balancer = balance.New(balance.Settings{
		Kind:             set.Type,
		Overprovisioning: float64(set.Overprovisioning) / 100,
		Panic:            float64(set.PanicThreshold) / 100,
		SlowStart: balance.SlowStart{
			Window: set.SlowStart, Aggression: set.Aggression, Least: float64(set.MinWeightPercent) / 100,
		},
		TableSize: set.TableSize,
		Begin:     begin,
		Bound:     float64(set.BalanceFactor) / 100,
		Decay:     set.DecayTime,
	}, targets, before)
	c.timed = c.balancer.TellsTime()
	if c.balancer.Hashes() {
		c.hash = &hashKey{set.Key}
	}
}
