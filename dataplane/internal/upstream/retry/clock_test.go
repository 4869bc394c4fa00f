package retry

import (
	"testing"
	"time"
	"unsafe"
)

// setBack returns a time as it would have been read, had the clock of the machine been set back before: the monotonic
// clock goes on.
func setBack(t time.Time, by time.Duration) time.Time {
	(*struct{ wall uint64 })(unsafe.Pointer(&t)).wall -= uint64(by/time.Second) << 30
	return t
}

// TestClockIsSetBack has a budget and quantiles go on as if nothing had happened when the machine's clock is set.
func TestClockIsSetBack(t *testing.T) {
	now := time.Now()
	if got := setBack(now, time.Hour); now.UnixNano()-got.UnixNano() != int64(time.Hour) || now.Sub(got) != 0 {
		t.Fatalf("the time set back is %s, not an hour before %s", got, now)
	}
	var b Budget
	var l Latencies
	for range 100 {
		b.Request(now)
		l.Add(now, time.Second)
	}
	if got := l.Within(now, 0.5); got < time.Second {
		t.Fatalf("a quantile of %s", got)
	}
	later := func(d time.Duration) time.Time { return setBack(now.Add(d), time.Hour) }
	for i := range 20 {
		if got := b.Take(later(time.Second), 20, 0); !got {
			t.Fatalf("retry %d of 20 is refused", i+1)
		}
	}
	if b.Take(later(time.Second), 20, 0) {
		t.Error("a budget of 20 allows 21")
	}
	for i := range 20 { // and for long after that
		at := time.Duration(i+2) * Window
		for range 10 {
			b.Request(later(at))
		}
		taken := 0
		for b.Take(later(at), 20, 0) {
			taken++
		}
		if taken != 2 {
			t.Errorf("%s later there are %d retries of ten requests, want 2", at, taken)
		}
	}
	for range 200 {
		l.Add(later(3*generationLength), time.Millisecond)
	}
	if got := l.Within(later(3*generationLength), 0.5); got > 2*time.Millisecond {
		t.Errorf("what came later is within %s", got)
	}
}
