package backoff

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestNext(t *testing.T) {
	for range 100 {
		e := Exponential{Least: 100 * time.Millisecond, Most: time.Second}
		check := func(most time.Duration) {
			t.Helper()
			if d := e.Next(); d < most/2 || d > most {
				t.Errorf("waits for %s, not for %s to %s", d, most/2, most)
			}
		}
		for _, ms := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
			check(ms * time.Millisecond)
		}
		e.Most = 3 * time.Second
		check(2 * time.Second)
		check(3 * time.Second)
		e.Reset()
		check(100 * time.Millisecond)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := Exponential{Least: time.Second, Most: time.Second}
		begun := time.Now()
		if goesOn := e.Wait(t.Context(), nil); !goesOn || time.Since(begun) < time.Second/2 || time.Since(begun) > time.Second {
			t.Errorf("%t after %s", goesOn, time.Since(begun))
		}
		begun = time.Now()
		wake := make(chan struct{}, 1)
		wake <- struct{}{}
		if goesOn := e.Wait(t.Context(), wake); !goesOn || time.Since(begun) != 0 {
			t.Errorf("woken: %t after %s", goesOn, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if e.Wait(ctx, wake) || time.Since(begun) != time.Millisecond {
			t.Errorf("its context ended, and it goes on after %s", time.Since(begun))
		}
	})
}
