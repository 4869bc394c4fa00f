package outlier

import (
	"math"
	"slices"
	"time"

	"gateway.internal/shared/config"
)

// group is the endpoints of one service, which are judged together. It is a state machine without a clock: what is due
// is done when it is told what time it is. The detector's mutex protects it.
type group struct {
	id, service string
	set         config.Outlier
	hosts       []*Host
	sweep       time.Time // when endpoints are compared next
	ejections   [reasons]uint64
	overflow    uint64 // ejections that the limits did not allow
	index       int    // in the detector's schedule
	at          time.Time
	// changed is told of each change; nil: nobody is.
	changed func(g *group, h *Host, length time.Duration)
}

// allowed returns how many of n endpoints may be ejected at a time: the share, at least one, and never all.
func (g *group) allowed(n int) int {
	return min(max(1, n*g.set.MaxEjectionPercent/100), n-1)
}

func (g *group) ejected() (n int) {
	for _, h := range g.hosts {
		if h.ejected() {
			n++
		}
	}
	return n
}

// last reports whether no other endpoint takes requests.
func (g *group) last(h *Host) bool {
	return !slices.ContainsFunc(g.hosts, func(o *Host) bool { return o != h && o.weight > 0 && o.state.Healthy() })
}

// eject ejects an endpoint if it may be.
func (g *group) eject(h *Host, reason Reason, now time.Time) {
	h.forget()
	if h.ejected() {
		return
	}
	if g.ejected() >= g.allowed(len(g.hosts)) || g.last(h) {
		g.overflow++
		return
	}
	length := g.set.MaxEjectionTime
	if h.times++; g.set.BaseEjectionTime <= length/time.Duration(h.times) {
		length = g.set.BaseEjectionTime * time.Duration(h.times)
	} else {
		h.times-- // it is as long as it may be
	}
	h.until, h.reason = now.Add(length), reason
	h.count++
	g.ejections[reason]++
	h.state.Set(stateEjected, true)
	g.tell(h, length)
}

// giveBack ends an ejection.
func (g *group) giveBack(h *Host, now time.Time) {
	h.until, h.returned = time.Time{}, now
	h.forget()
	h.state.Set(stateEjected, false)
	g.tell(h, 0)
}

func (g *group) tell(h *Host, length time.Duration) {
	if g.changed != nil {
		g.changed(g, h, length)
	}
}

// limit gives endpoints back, those first whose time is over first, until no more are ejected than may be: others have
// left.
func (g *group) limit(now time.Time) {
	for g.ejected() > max(0, g.allowed(len(g.hosts))) {
		var first *Host
		for _, h := range g.hosts {
			if h.ejected() && (first == nil || h.until.Before(first.until)) {
				first = h
			}
		}
		g.giveBack(first, now)
	}
}

// advance does what is due, and returns when there is something to do next.
func (g *group) advance(now time.Time) time.Time {
	for _, h := range g.hosts {
		if h.ejected() && !h.until.After(now) {
			g.giveBack(h, now)
		}
	}
	if !g.sweep.After(now) {
		g.compare(now)
		for _, h := range g.hosts {
			if !h.ejected() && h.times > 0 && now.Sub(h.returned) >= g.set.Interval {
				h.times--
				h.returned = now
			}
		}
		if g.sweep = g.sweep.Add(g.set.Interval); !g.sweep.After(now) {
			g.sweep = now.Add(g.set.Interval)
		}
	}
	next := g.sweep
	for _, h := range g.hosts {
		if h.ejected() && h.until.Before(next) {
			next = h.until
		}
	}
	return next
}

// sample is what an endpoint has done in an interval.
type sample struct {
	host          *Host
	total, failed uint64
	timed         uint64
	micros        float64
}

func (s *sample) successes() float64 { return float64(s.total-s.failed) / float64(s.total) }

// compare judges all endpoints by what they have done since it was called last.
func (g *group) compare(now time.Time) {
	if !g.compares() && !g.times() {
		return
	}
	samples := make([]sample, 0, len(g.hosts))
	for _, h := range g.hosts {
		s := sample{host: h, failed: h.failed.Swap(0), total: h.total.Swap(0), timed: h.timed.Swap(0)}
		s.failed = min(s.failed, s.total) // a request may be counted between the two
		if took := h.took.Swap(0); s.timed > 0 {
			s.micros = float64(took) / float64(s.timed)
		}
		if spread := h.spread.Load(); spread != nil {
			s.micros = float64(spread.take(g.set.Latency.Percentile))
		}
		if !h.ejected() {
			samples = append(samples, s)
		}
	}
	g.compareSuccess(samples, now)
	g.compareFailures(samples, now)
	g.compareTimes(samples, now)
}

func (g *group) compares() bool {
	return g.set.SuccessRate.MinimumHosts > 0 || g.set.FailurePercentage.MinimumHosts > 0
}

func (g *group) times() bool { return g.set.Latency.MinimumHosts > 0 }

// enough returns the samples with enough requests; nil: there are not enough of them.
func enough(samples []sample, hosts, volume int, count func(*sample) uint64) (judged []sample) {
	if hosts == 0 {
		return nil
	}
	for i := range samples {
		if count(&samples[i]) >= uint64(volume) {
			judged = append(judged, samples[i])
		}
	}
	if len(judged) < hosts {
		return nil
	}
	return judged
}

func totalOf(s *sample) uint64 { return s.total }

// compareSuccess ejects endpoints whose share of successes is far below the mean, the worst first.
func (g *group) compareSuccess(samples []sample, now time.Time) {
	judged := enough(samples, g.set.SuccessRate.MinimumHosts, g.set.SuccessRate.RequestVolume, totalOf)
	if judged == nil {
		return
	}
	mean, variance := 0.0, 0.0
	for i := range judged {
		mean += judged[i].successes() / float64(len(judged))
	}
	for i := range judged {
		d := judged[i].successes() - mean
		variance += d * d / float64(len(judged))
	}
	least := mean - math.Sqrt(variance)*float64(g.set.SuccessRate.Limit)/1000
	slices.SortStableFunc(judged, func(a, b sample) int { return ascending(a.successes(), b.successes()) })
	for i := range judged {
		if judged[i].successes() < least {
			g.eject(judged[i].host, SuccessRate, now)
		}
	}
}

// compareFailures ejects endpoints by their share of failures, the worst first.
func (g *group) compareFailures(samples []sample, now time.Time) {
	rule := g.set.FailurePercentage
	judged := enough(samples, rule.MinimumHosts, rule.RequestVolume, totalOf)
	slices.SortStableFunc(judged, func(a, b sample) int { return ascending(a.successes(), b.successes()) })
	for i := range judged {
		if s := &judged[i]; s.failed*100 >= s.total*uint64(rule.Limit) {
			g.eject(s.host, FailurePercentage, now)
		}
	}
}

// compareTimes ejects endpoints that are much slower than the median, the slowest first.
func (g *group) compareTimes(samples []sample, now time.Time) {
	rule := g.set.Latency
	judged := enough(samples, rule.MinimumHosts, rule.RequestVolume, func(s *sample) uint64 { return s.timed })
	if len(judged) == 0 {
		return
	}
	slices.SortStableFunc(judged, func(a, b sample) int { return ascending(b.micros, a.micros) })
	median := (judged[len(judged)/2].micros + judged[(len(judged)-1)/2].micros) / 2
	for i := range judged {
		s := &judged[i]
		if s.micros > median*rule.Factor && s.micros > float64(rule.Minimum/time.Microsecond) {
			g.eject(s.host, Latency, now)
		}
	}
}

func ascending(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
