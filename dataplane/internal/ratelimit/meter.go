package ratelimit

import (
	"time"

	"gateway.internal/shared/ratelimit"
)

// meter is what an algorithm does with the state of a key, which is one word without its highest bit. The zero word is
// the state of a key that nothing is known of, and so is each that is idle. A meter is immutable, and knows no keys.
//
//	token_bucket    the time when the bucket is full again, in nanoseconds of the clock (GCRA's theoretical arrival
//	                time, ITU-T I.371)
//	sliding_window  17 bits of the window's number, 23 bits of what the window before has counted, 23 of what this has
//	fixed_window    31 bits of the window's number, 32 bits of what it has counted
//	concurrency     32 bits of what is under way, and above them 31 that change when the place becomes another key's
type meter struct {
	algorithm ratelimit.Algorithm
	limit     int64
	window    int64 // nanoseconds
	span      int64 // token_bucket: how long an empty bucket takes to be full
	increment int64 // token_bucket: of a cost of 1
	settings  *ratelimit.Settings
}

// moment is a time as an algorithm sees it.
type moment struct {
	at    int64  // nanoseconds of the clock
	index uint64 // of the window
	since int64  // nanoseconds since the window has begun
	left  int64  // nanoseconds until the next one begins
}

// decision is what a limit says of a request.
type decision struct {
	passes bool
	// left is what may pass now, once the request has taken what it takes.
	left int64
	// wait is how long, in nanoseconds, until left is what it is after a pause; of a request that does not pass, until one
	// like it may. 0: that is not known.
	wait int64
}

const (
	slidingBits  = 23
	slidingMask  = 1<<slidingBits - 1
	slidingIndex = 1<<17 - 1
	fixedBits    = 32
	fixedMask    = 1<<fixedBits - 1
	fixedIndex   = 1<<31 - 1
)

func newMeter(s *ratelimit.Settings) meter {
	m := meter{algorithm: s.Algorithm, limit: s.Limit, window: int64(s.Window), settings: s}
	if s.Algorithm == ratelimit.TokenBucket {
		m.span, m.increment = s.Increment(s.Burst), s.Increment(1)
	}
	return m
}

// take returns the state after a request that takes a cost, and what is to be said to it. The state is that before
// where the request does not pass.
func (m *meter) take(state uint64, at *moment, cost int64) (next uint64, d decision) {
	switch m.algorithm {
	case ratelimit.TokenBucket:
		return m.takeTokens(state, at, cost)
	case ratelimit.SlidingWindow:
		return m.takeSliding(state, at, cost)
	case ratelimit.FixedWindow:
		n, _ := m.counted(state, at)
		d = decision{left: m.limit - n, wait: at.left}
		if d.passes = cost <= d.left; !d.passes {
			d.left = max(d.left, 0)
			return state, d
		}
		d.left -= cost
		index := at.index
		if newer(state>>fixedBits, index, fixedIndex) {
			index = state >> fixedBits
		}
		return index<<fixedBits | uint64(n+cost), d
	default:
		d.left = m.limit - int64(state&fixedMask)
		if d.passes = cost <= d.left; !d.passes {
			d.left = max(d.left, 0)
			return state, d
		}
		d.left -= cost
		return state + uint64(cost), d
	}
}

func (m *meter) takeTokens(state uint64, at *moment, cost int64) (uint64, decision) {
	// A bucket whose settings have changed has at most the time to fill that it has by the new ones.
	full := min(max(int64(state), at.at), at.at+m.span)
	increment := m.increment
	if cost != 1 {
		increment = m.settings.Increment(cost)
	}
	next := full + increment
	if next-at.at > m.span {
		return state, decision{left: (m.span - (full - at.at)) / m.increment, wait: next - at.at - m.span}
	}
	return uint64(next), decision{passes: true, left: (m.span - (next - at.at)) / m.increment, wait: next - at.at}
}

func (m *meter) takeSliding(state uint64, at *moment, cost int64) (uint64, decision) {
	index, before, now, since := m.slide(state, at)
	weight := float64(m.window-since) / float64(m.window)
	counted := int64(float64(before)*weight+0.5) + now
	d := decision{left: m.limit - counted, wait: at.left}
	if d.passes = cost <= d.left; !d.passes {
		d.left, d.wait = max(d.left, 0), m.untilSlid(before, now, since, cost)
		return state, d
	}
	d.left -= cost
	return index<<(2*slidingBits) | uint64(before)<<slidingBits | uint64(now+cost), d
}

// slide returns what a state of sliding_window says at a moment.
func (m *meter) slide(state uint64, at *moment) (index uint64, before, now, since int64) {
	index, before, now = state>>(2*slidingBits), int64(state>>slidingBits&slidingMask), int64(state&slidingMask)
	switch {
	case index == at.index:
		return index, before, now, at.since
	case (index+1)&slidingIndex == at.index:
		return at.index, now, 0, at.since
	case state != 0 && newer(index, at.index, slidingIndex):
		return index, before, now, 0
	}
	return at.index, 0, 0, at.since
}

// untilSlid returns how long it takes until a cost may pass.
func (m *meter) untilSlid(before, now, since, cost int64) int64 {
	if room := m.limit - now - cost; room >= 0 && before > 0 {
		return max(m.window-int64(float64(m.window)*min(float64(room)/float64(before), 1))-since, 1)
	}
	next := m.window - since
	if room := m.limit - cost; room >= 0 && now > 0 {
		next += m.window - int64(float64(m.window)*min(float64(room)/float64(now), 1))
	}
	return max(next, 1)
}

// counted returns what a state of fixed_window has counted at a moment.
func (m *meter) counted(state uint64, at *moment) (n int64, known bool) {
	index := state >> fixedBits
	if index == at.index || newer(index, at.index, fixedIndex) {
		return int64(state & fixedMask), true
	}
	return 0, false
}

// newer reports whether a window comes soon after another one: exchanges may look at slightly different times.
func newer(index, than, mask uint64) bool {
	const soon = 64
	d := (index - than) & mask
	return d != 0 && d <= soon
}

// give returns the state when a cost that was taken in a window, or of concurrency, is given back.
func (m *meter) give(state uint64, at *moment, cost int64) uint64 {
	switch m.algorithm {
	case ratelimit.TokenBucket:
		return uint64(max(int64(state)-m.settings.Increment(cost), 0))
	case ratelimit.SlidingWindow:
		index, before, now := state>>(2*slidingBits), int64(state>>slidingBits&slidingMask), int64(state&slidingMask)
		switch index {
		case at.index:
			now = max(now-cost, 0)
		case (at.index + 1) & slidingIndex:
			before = max(before-cost, 0)
		}
		return index<<(2*slidingBits) | uint64(before)<<slidingBits | uint64(now)
	case ratelimit.FixedWindow:
		if n := int64(state & fixedMask); state>>fixedBits == at.index {
			return state&^fixedMask | uint64(max(n-cost, 0))
		}
		return state
	default:
		return state&^fixedMask | uint64(max(int64(state&fixedMask)-cost, 0))
	}
}

// used returns how much of the limit a state says is used, on a scale of its own; 0: the state is idle, which is as if
// nothing were known of the key.
func (m *meter) used(state uint64, at *moment) int64 {
	switch m.algorithm {
	case ratelimit.TokenBucket:
		return max(int64(state)-at.at, 0)
	case ratelimit.SlidingWindow:
		_, before, now, since := m.slide(state, at)
		return int64(float64(before)*float64(m.window-since)/float64(m.window)+0.999) + now
	case ratelimit.FixedWindow:
		n, _ := m.counted(state, at)
		return n
	case leasedMeters:
		l := leaseOf(state, at.at)
		return min(l.until, l.left+1) // 0 where it is not valid
	default:
		return int64(state & fixedMask)
	}
}

// inherit returns the state that a key begins with in the place of another one: another state than that one's, which is
// idle where that is, and otherwise has used a little more.
func (m *meter) inherit(state uint64, at *moment) uint64 {
	idle := m.used(state, at) == 0
	switch m.algorithm {
	case ratelimit.TokenBucket:
		switch {
		case !idle:
			return state + 1
		case state == 0:
			return 1 // as long ago as 0
		}
		return 0
	case ratelimit.SlidingWindow, ratelimit.FixedWindow:
		if !idle {
			if state&slidingMask == slidingMask {
				return state - 1
			}
			return state + 1
		}
		if state == 0 {
			return 1 << (2 * slidingBits) // a window that is long over
		}
		return 0
	case leasedMeters: // what a node has taken ahead for one key is not another one's
		if state == 0 {
			return 1
		}
		return 0
	default:
		return (state + 1<<fixedBits) &^ frozen
	}
}

// look is what a limit says of a key that nothing is taken for.
func (m *meter) look(state uint64, at *moment) decision {
	_, d := m.take(state, at, 0)
	return d
}

// moment returns a time as the algorithm sees it. base is when the clock began.
func (m *meter) moment(now, base time.Time, calendar *period) (at moment) {
	switch {
	case m.algorithm == ratelimit.TokenBucket:
		at.at = max(int64(now.Sub(base)), 1)
	case calendar != nil:
		ns := now.UnixNano()
		at.index, at.since, at.left = calendar.index&fixedIndex, ns-calendar.from, calendar.until-ns
	case m.window > 0:
		ns := now.UnixNano()
		index := ns / m.window
		at.since = ns - index*m.window
		at.left = m.window - at.since
		if at.index = uint64(index) & fixedIndex; m.algorithm == ratelimit.SlidingWindow {
			at.index = uint64(index) & slidingIndex
		}
	}
	return at
}

// period is a window by the calendar, in nanoseconds since 1970.
type period struct {
	from, until int64
	index       uint64
}

// periodOf returns the one that a time is in.
func periodOf(s *ratelimit.Settings, now time.Time) *period {
	from, until := s.Period(now)
	return &period{from.UnixNano(), until.UnixNano(), uint64(from.Unix() / 3600)}
}
