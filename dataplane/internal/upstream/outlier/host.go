// Package outlier ejects endpoints by what comes of the requests that they are sent: after failures in a row at once,
// and by comparing the endpoints of a service at intervals. It sees results, and writes its verdicts into the
// endpoints' state, which balancers read. Names and rules are those of Envoy's outlier detection, but where
// proto/gateway/config/v1/outlier.proto says otherwise.
package outlier

import (
	"math/bits"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/upstream/balance"
	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/shared/config"
)

// Host is what is counted at one endpoint, and its ejections. It outlives changes of the configuration. The zero value
// counts nothing.
type Host struct {
	rules atomic.Pointer[rules]
	_     [56]byte // the rules are read by every request, what follows is written by them
	counts
	_ [40]byte
	ejection
}

// rules are what a request has to know, and whom to tell.
type rules struct {
	detector *Detector
	set      config.Outlier
	compares bool // shares of failures count
	times    bool // times count
}

// counts are written by requests. What is of an interval is taken out by the detector at its end.
type counts struct {
	in5xx, inGateway atomic.Uint32 // failures in a row
	due              atomic.Uint32 // a Reason: failures in a row have reached their limit; 0: they have not
	next             *Host         // in the detector's list of those that are due
	total, failed    atomic.Uint64 // requests of the interval
	timed, took      atomic.Uint64 // those that count for times, and the sum of these in microseconds
	spread           atomic.Pointer[histogram]
}

// Reason is why an endpoint is ejected.
type Reason uint32

// The reasons.
const (
	NoReason Reason = iota
	Consecutive5xx
	ConsecutiveGatewayFailures
	SuccessRate
	FailurePercentage
	Latency

	reasons
)

var reasonNames = [reasons]string{
	"none", "consecutive_5xx", "consecutive_gateway_failures", "success_rate", "failure_percentage", "latency",
}

// String returns the reason's name, as it is in metrics.
func (r Reason) String() string { return reasonNames[r] }

// Ended counts a result. It takes no lock and does not allocate. It may be called by any goroutine.
func (h *Host) Ended(r *outcome.Result) {
	rules := h.rules.Load()
	if rules == nil || !r.Telling() {
		return
	}
	failed := r.Failed()
	if rules.compares {
		h.total.Add(1)
		if failed {
			h.failed.Add(1)
		}
	}
	if rules.times && (r.Kind == outcome.Answered || r.Kind == outcome.TimedOut) {
		h.time(r.Took)
	}
	if !failed {
		if h.in5xx.Load() != 0 {
			h.in5xx.Store(0)
		}
		if h.inGateway.Load() != 0 {
			h.inGateway.Store(0)
		}
		return
	}
	h.fail(rules, r.Kind != outcome.Answered || r.Status >= 502 && r.Status <= 504)
}

// fail counts a failure.
func (h *Host) fail(rules *rules, gateway bool) {
	reason := NoReason
	if n, limit := h.in5xx.Add(1), rules.set.Consecutive5xx; limit > 0 && n >= uint32(limit) {
		reason = Consecutive5xx
	}
	if !gateway {
		h.inGateway.Store(0)
	} else if n, limit := h.inGateway.Add(1), rules.set.ConsecutiveGateway; limit > 0 && n >= uint32(limit) {
		reason = ConsecutiveGatewayFailures // it says more
	}
	if reason != NoReason && h.due.Load() == 0 && h.due.CompareAndSwap(0, uint32(reason)) {
		rules.detector.tell(h)
	}
}

func (h *Host) time(took time.Duration) {
	micros := uint64(max(took, 0) / time.Microsecond)
	h.timed.Add(1)
	h.took.Add(micros)
	if s := h.spread.Load(); s != nil {
		s.buckets[bucketOf(micros)].Add(1)
	}
}

// forget takes out what was counted.
func (h *Host) forget() {
	h.in5xx.Store(0)
	h.inGateway.Store(0)
	h.total.Store(0)
	h.failed.Store(0)
	h.timed.Store(0)
	h.took.Store(0)
	if s := h.spread.Load(); s != nil {
		s.take(0)
	}
}

// subBuckets is in how many parts the times of a power of two are told apart: a percentile is at most an eighth too
// high.
const subBuckets = 8

// histogram counts times by buckets that grow with the time.
type histogram struct {
	buckets [bucketCount]atomic.Uint32
}

// maxTime is a time, in microseconds, above which times are not told apart: more than an hour.
const maxTime = 1<<32 - 1

const bucketCount = (32 - 3 + 1) * subBuckets

// bucketOf returns the bucket of a time in microseconds.
func bucketOf(micros uint64) int {
	micros = min(micros, maxTime)
	if micros < subBuckets {
		return int(micros)
	}
	e := bits.Len64(micros) - 4
	return (e+1)*subBuckets + int(micros>>e)&(subBuckets-1)
}

// endOf returns the greatest time of a bucket.
func endOf(bucket int) uint64 {
	if bucket < subBuckets {
		return uint64(bucket)
	}
	e := bucket/subBuckets - 1
	return uint64(subBuckets+bucket%subBuckets+1)<<e - 1
}

// take returns a percentile in microseconds and takes out what was counted; 0: there was nothing.
func (h *histogram) take(percentile int) (micros uint64) {
	var counted [bucketCount]uint32
	total := uint64(0)
	for i := range h.buckets {
		if h.buckets[i].Load() != 0 {
			counted[i] = h.buckets[i].Swap(0)
			total += uint64(counted[i])
		}
	}
	rank, passed := (total*uint64(percentile)+99)/100, uint64(0)
	for i, n := range counted {
		if passed += uint64(n); n > 0 && passed >= rank {
			return endOf(i)
		}
	}
	return 0
}

// ejection is the detector's part of a host, under its mutex.
type ejection struct {
	state    *balance.State
	name     string // the endpoint's address
	weight   uint32
	until    time.Time // zero: it is not ejected
	reason   Reason    // of the last ejection
	times    int       // how many base_ejection_time the last one was long
	count    uint64    // of ejections
	returned time.Time // when it was given back, or its next ejection became shorter
}

func (e *ejection) ejected() bool { return !e.until.IsZero() }
