package retry

import (
	"math"
	"sync/atomic"
	"time"
)

// Latencies says within which time a share of a service's responses come, lately. It has a histogram of them for a time
// and one for that before it. The zero value has seen none. It is safe for concurrent use, takes no lock, and does not
// allocate after its first response.
type Latencies struct {
	counts atomic.Pointer[[2]generation]
	// known is the last quantile that was looked for, when that was, and what it is.
	quantile atomic.Uint64
	at       atomic.Int64
	nanos    atomic.Int64
}

// generation is what came in one time.
type generation struct {
	number atomic.Int64
	Histogram
}

const (
	// generationLength is how long responses count in one generation: they are forgotten when two of them are over.
	generationLength = 10 * time.Second
	// enough is how many responses have to be known for a quantile to be told.
	enough = 100
	// refresh is how long a quantile holds.
	refresh = 250 * time.Millisecond
)

// Add counts a response.
func (l *Latencies) Add(now time.Time, took time.Duration) {
	all := l.counts.Load()
	if all == nil {
		l.counts.CompareAndSwap(nil, &[2]generation{})
		all = l.counts.Load()
	}
	number := int64(now.Sub(epoch) / generationLength)
	g := &all[number&1]
	if old := g.number.Load(); old < number && g.number.CompareAndSwap(old, number) {
		// What others count meanwhile may be lost, which is a few of thousands.
		g.Reset()
	}
	g.Histogram.Add(took)
}

// Within returns the time within which a share q of the responses came, up to a sixteenth more; 0: too few are known.
func (l *Latencies) Within(now time.Time, q float64) time.Duration {
	ns := int64(now.Sub(epoch))
	if l.quantile.Load() == math.Float64bits(q) && ns-l.at.Load() < int64(refresh) {
		return time.Duration(l.nanos.Load())
	}
	d := l.within(ns/int64(generationLength), q)
	l.nanos.Store(int64(d))
	l.at.Store(ns)
	l.quantile.Store(math.Float64bits(q))
	return d
}

// Quantile is Within, counted anew with each call: for reports, that ask for several.
func (l *Latencies) Quantile(now time.Time, q float64) time.Duration {
	return l.within(int64(now.Sub(epoch)/generationLength), q)
}

func (l *Latencies) within(number int64, q float64) time.Duration {
	all := l.counts.Load()
	if all == nil {
		return 0
	}
	var recent [2]*Histogram
	n := 0
	for i := range all {
		if g := &all[i]; g.number.Load() >= number-1 {
			recent[n] = &g.Histogram
			n++
		}
	}
	return quantile(q, enough, recent[:n])
}
