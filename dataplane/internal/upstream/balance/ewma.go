package balance

import (
	"math"
	"sync/atomic"
	"time"
)

// DefaultDecay is the decay of peak_ewma where Settings do not say, as Finagle's and Envoy's.
const DefaultDecay = 10 * time.Second

// leastPenalty is what a failed request counts at least: an endpoint that fails at once is no fast one.
const leastPenalty = time.Second

// latency is what is known of an endpoint's response times: their moving average, weighted exponentially by time,
// which peaks raise at once. Two that are told at the same time may be taken for one.
type latency struct {
	average atomic.Uint64 // nanoseconds, as bits of a float64; 0: nothing is known
	at      atomic.Int64  // when it was
}

// observe takes a response time in.
func (l *latency) observe(took float64, now int64, decay time.Duration) {
	average := l.now(now, decay)
	if took < average {
		before := math.Exp(-float64(max(now-l.at.Load(), 0)) / float64(decay))
		took += (math.Float64frombits(l.average.Load()) - took) * before
	}
	l.average.Store(math.Float64bits(took))
	l.at.Store(now)
}

// now returns the average as of now: what is known fades, so that an endpoint that was slow is tried again.
func (l *latency) now(now int64, decay time.Duration) float64 {
	average := math.Float64frombits(l.average.Load())
	if average == 0 {
		return 0
	}
	return average * math.Exp(-float64(max(now-l.at.Load(), 0))/float64(decay))
}

// Observe tells how long an attempt took up to the response's head, or to its failure. It is needed where
// [Balancer.Observes] says so.
func (s *State) Observe(took time.Duration, failed bool, now int64, decay time.Duration) {
	t := float64(max(took, 1))
	if failed {
		t = max(t, 2*s.latency.now(now, decay), float64(leastPenalty))
	}
	s.latency.observe(t, now, decay)
}

// peakEWMA takes the better one of two targets that are drawn by weight, by the average of their response times and
// what they have in flight (Finagle's "peak EWMA").
type peakEWMA struct {
	base
	decay time.Duration
}

func newPeakEWMA(set *Settings, in *group) *peakEWMA {
	p := &peakEWMA{base: base{group: in}, decay: set.Decay}
	if p.decay == 0 {
		p.decay = DefaultDecay
	}
	p.spare.watch(in, false)
	return p
}

// Pick implements Strategy.
func (p *peakEWMA) Pick(c Choice) int {
	i := p.spare.random(c)
	if i < 0 {
		return i
	}
	j := p.spare.random(c)
	for range attempts {
		if j != i {
			break
		}
		j = p.spare.random(c)
	}
	if j != i && j >= 0 && p.cost(j, c.Now) < p.cost(i, c.Now) {
		return j
	}
	return i
}

// cost is what a request would wait for by what is known. A target of which nothing is known is free while it is
// idle, and is asked one request at a time until it has answered.
func (p *peakEWMA) cost(i int, now int64) float64 {
	t := &p.targets[i]
	queued := float64(t.State.InFlight()) / (float64(t.Weight) * p.spare.grown(t.State, now))
	average := t.State.latency.now(now, p.decay)
	if average == 0 && queued > 0 {
		average = float64(leastPenalty)
	}
	return average * (1 + queued)
}
