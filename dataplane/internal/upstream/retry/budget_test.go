package retry

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = epoch.Add(1000 * time.Hour)

// TestDyingService: a service all of whose responses are bad gets at most 1.2 times its requests, whatever the rate is,
// and however its requests come.
func TestDyingService(t *testing.T) {
	for name, c := range map[string]struct {
		perSecond, attempts int
		floor               uint32
	}{
		"thousands a second, two attempts": {2000, 2, 10},
		"thousands a second, ten attempts": {2000, 10, 10},
		"no floor":                         {40, 10, 0},
		"the floor's rate":                 {50, 10, 10},
	} {
		var b Budget
		requests, sent := 0, 0
		for now := start; now.Before(start.Add(time.Minute)); now = now.Add(time.Second / time.Duration(c.perSecond)) {
			b.Request(now)
			requests++
			sent++
			for range c.attempts - 1 {
				if !b.Take(now, 20, c.floor) {
					break
				}
				sent++
			}
		}
		if ratio := float64(sent) / float64(requests); ratio > 1.2+10.0*float64(c.floor)/float64(requests) || ratio < 1.17 {
			t.Errorf("%s: %d requests were sent %d times: %.3f", name, requests, sent, ratio)
		}
	}
}

// TestBudgetOfProperty: at no time has the window that ends there more retries than a naive count allows.
func TestBudgetOfProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		percent := rapid.Uint32Range(0, 100).Draw(t, "percent")
		floor := rapid.Uint32Range(0, 3).Draw(t, "floor")
		var b Budget
		var requests, retries []uint32 // the second of each
		count := func(all []uint32, now uint32) (n uint64) {
			for _, at := range all {
				if now-at < slots {
					n++
				}
			}
			return n
		}
		now := start
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(1500*time.Millisecond)).Draw(t, "later")))
			if rapid.IntRange(0, 40).Draw(t, "pause") == 0 {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(25*time.Second)).Draw(t, "pause")))
			}
			second := secondOf(now)
			for range rapid.IntRange(0, 20).Draw(t, "requests") {
				b.Request(now)
				requests = append(requests, second)
			}
			for range rapid.IntRange(0, 5).Draw(t, "retries") {
				most := max(count(requests, second)*uint64(percent)/100, uint64(floor)*slots)
				want := count(retries, second)+1 <= most
				if got := b.Take(now, percent, floor); got != want {
					t.Fatalf("at %s: %t, want %t: %d of %d", now.Sub(start), got, want, count(retries, second), most)
				}
				if want {
					retries = append(retries, second)
				}
			}
		}
	})
}

// TestBudgetOfMany has many ask at once: not one more gets what there is.
func TestBudgetOfMany(t *testing.T) {
	var b Budget
	var work sync.WaitGroup
	got := make([]int, 8)
	for range got {
		work.Go(func() {
			for range 1000 {
				b.Request(start)
			}
		})
	}
	work.Wait()
	for i := range got {
		work.Go(func() {
			for range 1000 {
				if b.Take(start, 20, 10) {
					got[i]++
				}
			}
		})
	}
	work.Wait()
	n := 0
	for _, g := range got {
		n += g
	}
	if n != 1600 {
		t.Errorf("%d retries of 8000 requests, want 1600", n)
	}
}

func TestBudgetAllocatesNothing(t *testing.T) {
	var b Budget
	if n := testing.AllocsPerRun(100, func() { b.Request(start); b.Take(start, 20, 10) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBudgetRequest(b *testing.B) {
	var budget Budget
	for b.Loop() {
		budget.Request(start)
	}
}
