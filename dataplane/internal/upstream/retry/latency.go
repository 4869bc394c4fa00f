package retry

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Latencies says within which time a share of a service's responses come, lately. It counts them in buckets of a width
// of at most a sixteenth of their time, for a time and the one before that. The zero value has seen none. It is safe
// for concurrent use, takes no lock, and does not allocate after its first response.
type Latencies struct {
	counts atomic.Pointer[[2]generation]
	// known is the last quantile that was looked for, when that was, and what it is.
	quantile atomic.Uint64
	at       atomic.Int64
	nanos    atomic.Int64
}

// generation is what came in one time.
type generation struct {
	number  atomic.Int64
	buckets [buckets]atomic.Uint32
}

const (
	// generationLength is how long responses count in one generation: they are forgotten when two of them are over.
	generationLength = 10 * time.Second
	// enough is how many responses have to be known for a quantile to be told.
	enough = 100
	// refresh is how long a quantile holds.
	refresh = 250 * time.Millisecond
	// subBits is the binary logarithm of the number of buckets for each power of two.
	subBits = 4
	buckets = (37 - subBits) << subBits // of microseconds, up to 19 hours
)

// bucketOf returns the bucket of a time.
func bucketOf(d time.Duration) int {
	us := uint64(max(d/time.Microsecond, 0))
	if us < 1<<subBits {
		return int(us)
	}
	shift := bits.Len64(us) - subBits - 1
	return min((shift+1)<<subBits+int(us>>shift)&(1<<subBits-1), buckets-1)
}

// upTo returns the longest time of a bucket.
func upTo(bucket int) time.Duration {
	us := uint64(bucket) + 1
	if shift := bucket>>subBits - 1; shift >= 0 {
		us = (uint64(bucket&(1<<subBits-1)) + 1<<subBits + 1) << shift
	}
	return time.Duration(us) * time.Microsecond
}

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
		for i := range g.buckets {
			g.buckets[i].Store(0)
		}
	}
	g.buckets[bucketOf(took)].Add(1)
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

func (l *Latencies) within(number int64, q float64) time.Duration {
	all := l.counts.Load()
	if all == nil {
		return 0
	}
	var recent [2]*generation
	n, total := 0, uint32(0)
	for i := range all {
		if g := &all[i]; g.number.Load() >= number-1 {
			recent[n] = g
			n++
			for b := range g.buckets {
				total += g.buckets[b].Load()
			}
		}
	}
	if total < enough {
		return 0
	}
	left := int64(math.Ceil(float64(total) * q))
	for i := range buckets {
		for _, g := range recent[:n] {
			left -= int64(g.buckets[i].Load())
		}
		if left <= 0 {
			return upTo(i)
		}
	}
	return upTo(buckets - 1)
}
