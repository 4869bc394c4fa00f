package remote

import (
	"sync/atomic"
	"time"
)

// gate keeps those who would wait for nothing from Redis. It closes at once where a connection fails, and after a few
// answers that come late. While it is closed nobody asks; then one may, and if that goes well all may. The zero value
// is open.
type gate struct {
	// shut is until when nobody asks, in nanoseconds since 1970; 0: the gate is open.
	shut  atomic.Int64
	lates atomic.Int32
	// times counts how often it was closed in a row.
	times   atomic.Int32
	probing atomic.Int64 // until when one call has the turn
}

const (
	maxLates  = 5
	leastShut = 100 * time.Millisecond
	mostShut  = 5 * time.Second
)

// open reports whether one may ask. Where the gate's time is over, one that takes the turn may.
func (g *gate) open(now time.Time, take bool) bool {
	shut := g.shut.Load()
	if shut == 0 {
		return true
	}
	if now.UnixNano() < shut {
		return false
	}
	turn := g.probing.Load()
	if now.UnixNano() < turn {
		return false
	}
	return !take || g.probing.CompareAndSwap(turn, now.Add(time.Second).UnixNano())
}

// failed closes the gate. It reports whether it was open.
func (g *gate) failed(now time.Time) bool {
	wait := min(leastShut<<min(g.times.Load(), 10), mostShut)
	was := g.shut.Load()
	if was != 0 && now.UnixNano() < was {
		return false
	}
	if !g.shut.CompareAndSwap(was, now.Add(wait).UnixNano()) {
		return false
	}
	g.times.Add(1)
	g.lates.Store(0)
	g.probing.Store(0)
	return was == 0
}

// late counts an answer that came too late, or not.
func (g *gate) late(now time.Time) bool {
	if g.shut.Load() != 0 || g.lates.Add(1) >= maxLates {
		return g.failed(now)
	}
	return false
}

// good opens the gate. It reports whether it was closed.
func (g *gate) good() bool {
	if g.lates.Load() != 0 {
		g.lates.Store(0)
	}
	if g.shut.Load() == 0 {
		return false
	}
	g.times.Store(0)
	g.probing.Store(0)
	return g.shut.Swap(0) != 0
}
