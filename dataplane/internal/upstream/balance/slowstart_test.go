package balance

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// TestSlowStart lets a target become healthy among four, in virtual time: its share grows from a tenth of its own.
func TestSlowStart(t *testing.T) {
	for _, kind := range []string{"round_robin", "weighted_round_robin", "random", "peak_ewma", "least_connections"} {
		for _, c := range []struct {
			name  string
			slow  SlowStart
			after time.Duration
			want  float64 // of its share
		}{
			{"at once", SlowStart{time.Minute, 1, 0.1}, 0, 0.1},
			{"at the first percent", SlowStart{time.Minute, 1, 0.1}, time.Second, 0.1},
			{"in the middle", SlowStart{time.Minute, 1, 0.1}, 30 * time.Second, 0.5},
			{"in the middle, aggressive", SlowStart{time.Minute, 2, 0.1}, 30 * time.Second, 0.707},
			{"at the end", SlowStart{time.Minute, 1, 0.1}, time.Minute, 1},
			{"not wanted", SlowStart{}, 0, 1},
		} {
			synctest.Test(t, func(t *testing.T) {
				ts := tiered([2]int{4, 1})
				b := New(Settings{Kind: kind, SlowStart: c.slow}, ts, nil)
				b.Pick(Choice{})
				time.Sleep(time.Hour)
				ts[0].State.SetHealthy(true)
				time.Sleep(c.after)
				const n = 6000
				got := 0
				for range n {
					if b.Pick(Choice{Now: Moment(time.Now())}) == 0 {
						got++
					}
				}
				want := c.want / (3 + c.want)
				if share := float64(got) / n; math.Abs(share-want) > 0.025 {
					t.Errorf("%s, %s: its share is %.3f instead of %.3f", kind, c.name, share, want)
				}
			})
		}
	}
}

// TestSlowStartOfAll has nothing but targets that begin: they share as at the end, the one that began first ahead.
func TestSlowStartOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		ts := tiered([2]int{2, 0})
		ts[0].State.Begin()
		b := New(Settings{Kind: "random", SlowStart: SlowStart{time.Minute, 1, 0.01}}, ts, nil)
		time.Sleep(2 * time.Second)
		ts[1].State.Set(Ejected, true)
		ts[1].State.Set(Ejected, false)
		time.Sleep(2 * time.Second)
		got := [2]float64{}
		for range 9000 {
			got[b.Pick(Choice{Now: Moment(time.Now())})]++
		}
		if ratio := got[1] / got[0]; ratio < 0.45 || ratio > 0.55 { // after 2 s and after 4 s
			t.Errorf("shared as %v", got)
		}
	})
}

// TestLeastConnectionsStartSlowly bounds what a target that begins has in flight, by its share.
func TestLeastConnectionsStartSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		ts := tiered([2]int{10, 0})
		for i := range ts {
			ts[i].State.Add(20)
		}
		ts[0].State.Add(-20)
		ts[0].State.Begin()
		b := New(Settings{Kind: "least_connections", SlowStart: SlowStart{time.Minute, 1, 0.1}}, ts, nil)
		for range 30 {
			ts[b.Pick(Choice{Now: Moment(time.Now())})].State.Add(1)
		}
		if got := ts[0].State.InFlight(); got < 1 || got > 3 {
			t.Errorf("it has %d in flight, others 23", got)
		}
	})
}
