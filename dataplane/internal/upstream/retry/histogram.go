package retry

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram counts responses by how long they took, in buckets of a width of at most a sixteenth of their time. The
// zero value has none. It is safe for concurrent use, takes no lock and does not allocate.
type Histogram struct{ buckets [buckets]atomic.Uint32 }

const (
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
func (h *Histogram) Add(took time.Duration) { h.buckets[bucketOf(took)].Add(1) }

// Reset forgets all responses. What others count meanwhile may be lost.
func (h *Histogram) Reset() {
	for i := range h.buckets {
		h.buckets[i].Store(0)
	}
}

// Quantile returns the time within which a share q of the responses came, up to a sixteenth more; 0: there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	all := [...]*Histogram{h}
	return quantile(q, 1, all[:])
}

// quantile is that of several histograms together; 0: they have less than least responses.
func quantile(q float64, least uint64, of []*Histogram) time.Duration {
	total := uint64(0)
	for _, h := range of {
		for i := range h.buckets {
			total += uint64(h.buckets[i].Load())
		}
	}
	if total < least {
		return 0
	}
	left := int64(math.Ceil(float64(total) * q))
	for i := range buckets {
		for _, h := range of {
			left -= int64(h.buckets[i].Load())
		}
		if left <= 0 {
			return upTo(i)
		}
	}
	return upTo(buckets - 1)
}
