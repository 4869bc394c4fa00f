package access

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhoGuessesWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThrottle()
		fail := func(address string, n int) {
			for range n {
				th.Failed(address)
			}
		}
		wait := func(address string, want time.Duration) {
			t.Helper()
			if got := th.Wait(address); got != want {
				t.Errorf("%s waits %s, want %s", address, got, want)
			}
		}
		fail("10.0.0.1", freeFailures)
		wait("10.0.0.1", 0)
		for _, want := range []time.Duration{1, 2, 4, 8} {
			fail("10.0.0.1", 1)
			wait("10.0.0.1", want*time.Second)
		}
		wait("10.0.0.2", 0)
		wait("::ffff:10.0.0.1", 8*time.Second)
		time.Sleep(3 * time.Second)
		wait("10.0.0.1", 5*time.Second)
		fail("10.0.0.1", 100)
		wait("10.0.0.1", mostPause)
		time.Sleep(forgottenAfter + time.Second)
		wait("10.0.0.1", 0)
		fail("10.0.0.1", freeFailures)
		wait("10.0.0.1", 0)

		fail("2001:db8::1", freeFailures)
		fail("2001:db8::2", 1)
		wait("2001:db8::3", time.Second) // of the same client
		wait("2001:db8:0:1::1", 0)
		fail("", freeFailures+1)
		wait("no address", time.Second)
	})
}

// TestThrottleIsBounded: as many addresses as there are do not make it grow, and the last ones are remembered.
func TestThrottleIsBounded(t *testing.T) {
	th := NewThrottle()
	for i := range maxThrottled + 100 {
		for range freeFailures + 1 {
			th.Failed(fmt.Sprintf("10.0.%d.%d", i/256, i%256))
		}
	}
	if n, m := len(th.addresses), th.recent.Len(); n != maxThrottled || m != maxThrottled {
		t.Errorf("%d and %d addresses are remembered", n, m)
	}
	if th.Wait("10.0.0.0") != 0 || th.Wait(fmt.Sprintf("10.0.%d.%d", (maxThrottled+99)/256, (maxThrottled+99)%256)) == 0 {
		t.Error("not the last ones are remembered")
	}
}
