package retry

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(19*time.Hour)).Draw(t, "time"))
		i := bucketOf(d)
		if high := upTo(i); d >= high || high-d > d/16+2*time.Microsecond {
			t.Fatalf("%s is in bucket %d, up to %s", d, i, high)
		}
		if i > 0 && d < upTo(i-1) {
			t.Fatalf("%s is in bucket %d, after %s", d, i, upTo(i-1))
		}
	})
}

// TestQuantile compares with the sorted list of all times.
func TestQuantile(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var l Latencies
	var all []time.Duration
	for range 5000 {
		d := time.Duration(random.ExpFloat64() * float64(20*time.Millisecond))
		all = append(all, d)
		l.Add(start, d)
	}
	slices.Sort(all)
	now := start
	for _, q := range []float64{0.5, 0.9, 0.95, 0.99, 0.999} {
		now = now.Add(refresh)
		want := all[int(float64(len(all))*q)-1]
		if got := l.Within(now, q); got < want || float64(got) > float64(want)*1.07+2000 {
			t.Errorf("%v: %s, want %s", q, got, want)
		}
	}
}

func TestQuantileForgets(t *testing.T) {
	var l Latencies
	if d := l.Within(start, 0.95); d != 0 {
		t.Errorf("of nothing: %s", d)
	}
	now := start.Add(time.Second)
	for range enough - 1 {
		l.Add(now, time.Millisecond)
	}
	if d := l.Within(now, 0.95); d != 0 {
		t.Errorf("of too few: %s", d)
	}
	l.Add(now, time.Millisecond)
	now = now.Add(refresh)
	if d := l.Within(now, 0.95); d < time.Millisecond || d > 1100*time.Microsecond {
		t.Errorf("of a hundred: %s", d)
	}
	now = now.Add(2 * generationLength)
	for range 2 * enough {
		l.Add(now, 100*time.Millisecond)
	}
	if d := l.Within(now, 0.5); d < 100*time.Millisecond {
		t.Errorf("of what came later: %s", d)
	}
	if d := l.Within(now.Add(3*generationLength), 0.5); d != 0 {
		t.Errorf("of what is over: %s", d)
	}
}

func TestHistogramForgets(t *testing.T) {
	var h Histogram
	if d := h.Quantile(0.5); d != 0 {
		t.Errorf("of nothing: %s", d)
	}
	for range 3 {
		h.Add(10 * time.Millisecond)
	}
	h.Add(time.Second)
	if d := h.Quantile(0.75); d < 10*time.Millisecond || d > 11*time.Millisecond {
		t.Errorf("three of four within %s", d)
	}
	if d := h.Quantile(0.99); d < time.Second || d > 1100*time.Millisecond {
		t.Errorf("all within %s", d)
	}
	h.Reset()
	if d := h.Quantile(0.5); d != 0 {
		t.Errorf("after a reset: %s", d)
	}
}
