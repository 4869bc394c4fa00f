package circuit

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/dataplane/internal/upstream/retry"
	"gateway.internal/shared/config"
)

const (
	// minGradient and maxGradient are by how much a limit may change in a window, but for its headroom.
	minGradient, maxGradient = 0.5, 2
	// lowWindows is for how many windows the limit is the lowest before the time without load is measured anew.
	lowWindows = 5
	// partOfInterval is the part of the time between two measurements that one may last.
	partOfInterval = 10
	// firstPatience is how long a measurement waits for its first response where nothing is known yet, and patience the
	// same in times without load: those from before it have to end, with more load, and then one of its own.
	firstPatience = time.Second
	patience      = 8
)

// gradient is a limit of the attempts under way that follows how long responses take, as Envoy's gradient controller
// does it (envoy.extensions.filters.http.adaptive_concurrency.v3.GradientControllerConfig). There are two phases in
// turn: windows, each of which ends with another limit, and measurements of the time without load, with a low limit.
// What ends a phase is the result that comes after its time, so that there is no timer. It is safe for concurrent use:
// results and admissions take no lock that they would wait for, and do not allocate. Times are in nanoseconds after the
// circuit was born.
type gradient struct {
	set config.Adaptive

	// limit is how many attempts may be under way. Each of them reads it, and it is written at the end of a phase.
	limit     atomic.Int64
	minRTT    atomic.Int64 // 0: not known
	measuring atomic.Bool
	// until is when the phase is over; 0: its time begins with the first response, or the first that is refused.
	until atomic.Int64
	// epoch is when the last measurement began. Attempts from before it had another load, and say nothing.
	epoch atomic.Int64

	_        [64]byte
	samples  retry.Histogram
	measured atomic.Int64 // responses in a measurement

	mu     sync.Mutex // of who ends a phase; nobody who has anything else to do waits for it
	before int64      // the limit that holds after a measurement
	low    int        // windows in a row at the end of which the limit was the lowest
	last   int64      // when the last measurement ended
	jitter float64    // of the next one, 0 to 1
}

// newGradient returns a limit that begins with a measurement.
func newGradient(set config.Adaptive) *gradient {
	g := &gradient{set: set, before: int64(set.MinLimit)}
	g.limit.Store(int64(set.MinConcurrency))
	g.measuring.Store(true)
	return g
}

// adapt has the settings hold. What is known stays where there was a limit before.
func (m *machine) adapt(set config.Adaptive) {
	old := m.gradient.Load()
	switch {
	case set == config.Adaptive{}:
		m.gradient.Store(nil)
	case old == nil:
		m.gradient.Store(newGradient(set))
	case old.set != set:
		next := newGradient(set)
		next.inherit(old, 0)
		m.gradient.Store(next)
	}
}

// inherit takes over what another limit knows, whose times are by shift later here. g is not in use yet.
func (g *gradient) inherit(from *gradient, shift int64) {
	from.mu.Lock()
	defer from.mu.Unlock()
	limit := from.limit.Load()
	if from.measuring.Load() {
		limit = from.before
	}
	minRTT := from.minRTT.Load()
	if minRTT == 0 {
		return
	}
	g.minRTT.Store(minRTT)
	g.limit.Store(g.within(limit))
	g.last, g.jitter = from.last+shift, from.jitter
	g.measuring.Store(false)
}

// most returns how many attempts may be under way; 0: any number.
func (m *machine) most() int {
	if g := m.gradient.Load(); g != nil {
		return int(g.limit.Load())
	}
	return m.set.Load().Concurrent
}

// sample takes a result in.
func (m *machine) sample(r *outcome.Result) {
	if g := m.gradient.Load(); g != nil {
		g.sample(m.at(r.Begun), m.at(r.Ended), r)
	}
}

// overdue ends a measurement that has lasted for too long, so that one that gets nowhere does not keep requests away,
// and reports whether it has.
func (m *machine) overdue(now time.Time) bool {
	g := m.gradient.Load()
	return g != nil && g.measuring.Load() && g.overdue(m.at(now))
}

func (g *gradient) overdue(at int64) bool {
	if g.until.CompareAndSwap(0, at+g.patience()) {
		return false
	}
	return g.turn(at)
}

// patience returns how long a measurement waits for its first response.
func (g *gradient) patience() int64 {
	wait := int64(firstPatience)
	if known := g.minRTT.Load(); known > 0 {
		wait = max(patience*known, int64(g.set.Window))
	}
	return min(wait, int64(g.set.Interval/partOfInterval))
}

// sample takes in the result of an attempt that began and ended at given times. Failures are not responses: many are
// faster than those. A time that is over is at least as long as the response would have taken, which is nothing to
// measure by.
func (g *gradient) sample(begun, at int64, r *outcome.Result) {
	measuring := g.measuring.Load()
	if r.Failed() && (measuring || r.Kind != outcome.TimedOut) || !r.Telling() || begun < g.epoch.Load() {
		return
	}
	g.samples.Add(r.Took)
	if !measuring {
		if at >= g.until.Load() {
			g.turn(at)
		}
		return
	}
	n := g.measured.Add(1)
	if n == 1 {
		g.until.Store(at + int64(g.set.Interval/partOfInterval))
	}
	if n >= int64(g.set.Requests) || at >= g.until.Load() {
		g.turn(at)
	}
}

// turn ends the phase, where it is over and nobody else does, and reports whether it has.
func (g *gradient) turn(at int64) bool {
	if !g.mu.TryLock() {
		return false
	}
	defer g.mu.Unlock()
	enough := g.measuring.Load() && g.measured.Load() >= int64(g.set.Requests)
	if !enough && at < g.until.Load() {
		return false
	}
	if g.measuring.Load() {
		g.endMeasurement(at)
	} else {
		g.endWindow(at)
	}
	return true
}

// percentile returns that of the phase, and begins another one.
func (g *gradient) percentile() int64 {
	rtt := int64(g.samples.Quantile(g.set.Percentile))
	g.samples.Reset()
	return rtt
}

func (g *gradient) endMeasurement(at int64) {
	known := g.minRTT.Load()
	switch rtt := g.percentile(); {
	case rtt > 0:
		g.minRTT.Store(rtt)
	case known == 0: // nothing is a reason to keep requests away; the next window shows more
		g.before = int64(g.set.MaxLimit)
	case g.before == int64(g.set.MinLimit): // what was known is wrong; the next window, at this limit, is nearer
		g.minRTT.Store(0)
	}
	g.last, g.jitter, g.low = at, rand.Float64(), 0
	g.limit.Store(g.before)
	g.until.Store(at + int64(g.set.Window))
	g.measuring.Store(false)
}

func (g *gradient) endWindow(at int64) {
	rtt := g.percentile()
	switch known := g.minRTT.Load(); {
	case rtt == 0: // whoever has counted was not yet through
	case known == 0:
		g.minRTT.Store(rtt)
	default:
		g.limit.Store(g.next(known, rtt))
	}
	if g.low++; g.limit.Load() > int64(g.set.MinLimit) {
		g.low = 0
	}
	due := g.last + int64(float64(g.set.Interval)*(1+g.set.Jitter*g.jitter))
	if at < due && (g.low < lowWindows || g.set.MinLimit == g.set.MaxLimit) {
		g.until.Store(at + int64(g.set.Window))
		return
	}
	g.before = g.limit.Load()
	g.limit.Store(int64(g.set.MinConcurrency))
	g.measured.Store(0)
	g.epoch.Store(at)
	g.until.Store(0)
	g.measuring.Store(true)
}

// next returns the limit after a window. The headroom, its root, has it try more as long as nothing takes longer.
func (g *gradient) next(minRTT, rtt int64) int64 {
	ratio := float64(minRTT) * (1 + g.set.Buffer) / float64(rtt)
	limit := float64(g.limit.Load()) * min(max(ratio, minGradient), maxGradient)
	return g.within(int64(limit + math.Sqrt(limit)))
}

func (g *gradient) within(limit int64) int64 {
	return min(max(limit, int64(g.set.MinLimit)), int64(g.set.MaxLimit))
}
