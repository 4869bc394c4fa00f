package exchange

import (
	"sync/atomic"
	"time"
)

// Moment is a time within an exchange that its goroutines share. It is kept by the monotonic clock, so that the
// system's clock may be set meanwhile. The zero value is no time.
type Moment struct {
	since atomic.Int64 // nanoseconds since Start, and one more; 0: no time
}

// Set makes it a time, not before x.Start.
func (m *Moment) Set(x *Exchange, at time.Time) { m.since.Store(int64(max(at.Sub(x.Start), 0)) + 1) }

// Clear makes it no time.
func (m *Moment) Clear() { m.since.Store(0) }

// Left returns how much is left at now of a time that began then, or anew at a later moment, if that is not the zero
// time; set tells whether it has begun.
func (m *Moment) Left(x *Exchange, now time.Time, of time.Duration, anew time.Time) (left time.Duration, set bool) {
	since := m.since.Load()
	if since == 0 {
		return of, false
	}
	left = of - (now.Sub(x.Start) - time.Duration(since-1))
	if !anew.IsZero() {
		left = max(left, of-now.Sub(anew))
	}
	return left, true
}
