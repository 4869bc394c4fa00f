package attempt

import (
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/shared/config"
)

// backingOff returns an attempt that waits for a minute before a retry, and where it tells that the wait is over.
func backingOff(t *testing.T, a *Attempts) (over <-chan next) {
	t.Helper()
	a.Retries.MaxRetryAfter = time.Hour
	if !a.Choose() {
		t.Fatal("there is no place for the first")
	}
	a.end(a.Exchange.Now)
	wait, ok := a.plan(config.RetryReset, time.Minute, true, nil)
	if !ok || wait != time.Minute {
		t.Fatalf("a retry after %s: %v", wait, ok)
	}
	done := make(chan next, 1)
	go func() { done <- a.backOff(wait) }()
	synctest.Wait()
	return done
}

// TestBackOffGivesWay has another request have the place of one that waits before its retry, which waits for a place
// then as each request does.
func TestBackOffGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, apply := registryOf(t)
		defer r.Close()
		apply(1)
		s := r.Get("s")
		a, other, begun := attemptsAt(s, 0), attemptsAt(s, 0), time.Now()
		over := backingOff(t, a)
		if !other.Choose() || time.Since(begun) > 0 {
			t.Errorf("another request has waited for %s: %v", time.Since(begun), other.verdict)
		}
		go func() {
			time.Sleep(time.Minute + time.Second)
			other.Exchange.Tick()
			other.end(other.Exchange.Now)
		}()
		if what := <-over; what != another || !a.Choose() || time.Since(begun) != time.Minute+time.Second {
			t.Errorf("the retry has begun after %s: %v, %v", time.Since(begun), what, a.verdict)
		}
		a.Finish()
		if n := s.Circuit().Status(time.Now()).Concurrent; n != 0 {
			t.Errorf("%d places are taken at the end", n)
		}
	})
}

// TestCircuitOpensWithinBackOff has the circuit open while a request waits before its retry.
func TestCircuitOpensWithinBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, apply := registryOf(t)
		defer r.Close()
		apply(1)
		s := r.Get("s")
		a := attemptsAt(s, 0)
		over := backingOff(t, a)
		s.Circuit().ForceOpen(time.Now(), time.Time{})
		if <-over; a.Choose() || !a.Refused() {
			t.Errorf("the service is asked: %v", a.verdict)
		}
		a.Finish()
		if n := s.Circuit().Status(time.Now()).Concurrent; n != 0 {
			t.Errorf("%d places are taken at the end", n)
		}
	})
}
