package balance

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPeakEWMA lets one of three be slow for a while, in virtual time: it gets few requests, and its share again when
// it has recovered.
func TestPeakEWMA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		ts := targets(1, 1, 1)
		b := New(Settings{Kind: "peak_ewma"}, ts, nil)
		slow := 200 * time.Millisecond
		run := func(n int) (share float64) {
			for range n {
				i := b.Pick(Choice{Now: Moment(time.Now())})
				took := 10 * time.Millisecond
				if i == 1 {
					took = slow
					share += 1 / float64(n)
				}
				time.Sleep(5 * time.Millisecond)
				ts[i].State.Observe(took, false, Moment(time.Now()), DefaultDecay)
			}
			return share
		}
		run(50)
		if share := run(1000); share > 0.05 {
			t.Errorf("the slow one gets %.2f", share)
		}
		slow = 10 * time.Millisecond
		time.Sleep(time.Minute) // what is known fades
		run(500)
		if share := run(2000); share < 0.2 {
			t.Errorf("when it has recovered, it gets %.2f", share)
		}
	})
}

// TestFailingIsNotFast: an endpoint that fails at once does not draw requests.
func TestFailingIsNotFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		ts := targets(1, 1, 1)
		b := New(Settings{Kind: "peak_ewma"}, ts, nil)
		failed := 0
		for range 1000 {
			i := b.Pick(Choice{Now: Moment(time.Now())})
			took := 20 * time.Millisecond
			if i == 1 {
				took = 100 * time.Microsecond
				failed++
			}
			time.Sleep(10 * time.Millisecond)
			ts[i].State.Observe(took, i == 1, Moment(time.Now()), DefaultDecay)
		}
		if failed > 20 {
			t.Errorf("%d of 1000 go to the one that fails", failed)
		}
	})
}

// TestPeaksCountAtOnce: one slow response raises the average at once, and fast ones lower it by time.
func TestPeaksCountAtOnce(t *testing.T) {
	var s State
	at := int64(time.Hour)
	s.Observe(10*time.Millisecond, false, at, DefaultDecay)
	s.Observe(500*time.Millisecond, false, at, DefaultDecay)
	if got := time.Duration(s.latency.now(at, DefaultDecay)); got != 500*time.Millisecond {
		t.Errorf("after a peak of 500 ms it is %v", got)
	}
	at += int64(DefaultDecay)
	s.Observe(10*time.Millisecond, false, at, DefaultDecay)
	if got := time.Duration(s.latency.now(at, DefaultDecay)).Milliseconds(); got < 185 || got > 195 { // 10 + 490/e
		t.Errorf("after 10 s and a response in 10 ms it is %d ms", got)
	}
}
