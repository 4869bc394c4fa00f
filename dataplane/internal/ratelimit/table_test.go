package ratelimit

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestManyAtOnce loses nothing while the table grows under them.
func TestManyAtOnce(t *testing.T) {
	for _, text := range []string{
		`{"algorithm": "fixed_window", "limit": 5, "window": "1h"}`, `{"limit": 5, "window": "1h"}`,
		`{"algorithm": "concurrency", "limit": 5}`,
	} {
		node := newNode(t)
		l := node.limit(t, text)
		now := node.base.Add(time.Hour).Truncate(time.Hour).Add(time.Minute)
		const keys, each, at = 1500, 3, 4
		passed := make([]atomic.Int64, keys)
		var running sync.WaitGroup
		for range at {
			running.Go(func() {
				for range each {
					for _, k := range rand.Perm(keys) {
						if l.ask(uint64(k)+1, now, 1).passes {
							passed[k].Add(1)
						}
					}
				}
			})
		}
		running.Wait()
		for k := range passed {
			if n := passed[k].Load(); n != 5 {
				t.Fatalf("%s: %d passed for key %d", text, n, k)
			}
		}
	}
}

// TestConcurrencyIsGivenBack whatever grows or shrinks meanwhile: nothing is under way in the end.
func TestConcurrencyIsGivenBack(t *testing.T) {
	node := newNode(t)
	l := node.limit(t, `{"algorithm": "concurrency", "limit": 3}`)
	var running sync.WaitGroup
	over := make([]atomic.Int64, 800)
	for range 4 {
		running.Go(func() {
			at := l.moment(time.Now())
			for range 5 {
				for _, k := range rand.Perm(len(over)) {
					tag := tagOf(uint64(k+1) * 0x9e3779b97f4a7c15)
					if !l.take(tag, &at, 1).passes {
						continue
					}
					if over[k].Add(1) > 3 {
						t.Error("more than three are under way")
					}
					over[k].Add(-1)
					l.give(tag, &at, 1)
				}
				l.table.tidy(&l.meter, &at)
			}
		})
	}
	running.Wait()
	at := l.moment(time.Now())
	if n := l.table.tidy(&l.meter, &at); n != 0 {
		t.Errorf("%d keys have something under way", n)
	}
}

// TestKeysWithoutEnd do not get one key more than its limit, nor the table more memory. A key may be forgotten once
// while others have used as little as it has: with its first request.
func TestKeysWithoutEnd(t *testing.T) {
	for _, text := range []string{
		`{"limit": 10, "window": "1h"}`, `{"algorithm": "fixed_window", "limit": 10, "window": "1h"}`,
	} {
		node := newNode(t)
		node.budget.left.Store(2048)
		l := node.limit(t, text)
		now := node.base.Add(time.Hour).Truncate(time.Hour)
		passed := map[uint64]int{}
		for i := range uint64(30_000) {
			l.ask(1000+i, now, 1)
			if i%50 == 0 {
				for k := range uint64(20) {
					if l.ask(k+1, now, 1).passes {
						passed[k]++
					}
				}
			}
		}
		for k, n := range passed {
			if n > 11 {
				t.Errorf("%s: %d passed for key %d", text, n, k)
			}
		}
		slots := 0
		for i := range l.table.shards {
			if g := l.table.shards[i].segment.Load(); g != nil {
				slots += len(g.buckets) * ways
			}
		}
		if slots > 2048+shards*ways {
			t.Errorf("%s: %d slots", text, slots)
		}
	}
}

// TestBudgetComesBack when keys are idle, and when the limit is gone.
func TestBudgetComesBack(t *testing.T) {
	node := newNode(t)
	l := node.limit(t, `{"limit": 10}`)
	begun := node.budget.left.Load()
	now := node.base.Add(time.Hour)
	for i := range uint64(20_000) {
		l.ask(i+1, now, 1)
	}
	st := l.ref.Value()
	node.tidy(now)
	if st.known < 19_000 {
		t.Errorf("%d keys are known", st.known)
	}
	for range 20 {
		node.tidy(now.Add(time.Hour))
	}
	if used := begun - node.budget.left.Load(); used > shards*ways || st.known != 0 {
		t.Errorf("%d slots are used for %d keys", used, st.known)
	}
	if err := st.Close(); err != nil || node.budget.left.Load() != begun {
		t.Errorf("%d of %d slots are left, %v", node.budget.left.Load(), begun, err)
	}
}

// TestBudgetIsGivenBackWhenOverdrawn: what is idle is let go of also where more is used than may be.
func TestBudgetIsGivenBackWhenOverdrawn(t *testing.T) {
	node := newNode(t)
	l := node.limit(t, `{"limit": 10}`)
	now := node.base.Add(time.Hour)
	for i := range uint64(20_000) {
		l.ask(i+1, now, 1)
	}
	const most = 1 << 30
	node.budget.left.Store(-most)
	for range 20 {
		node.tidy(now.Add(time.Hour))
	}
	if given := node.budget.left.Load() + most; given < 15_000 {
		t.Errorf("%d slots were given back", given)
	}
}

// TestBytesOfAKey says what a million keys take.
func TestBytesOfAKey(t *testing.T) {
	node := newNode(t)
	l := node.limit(t, `{"limit": 10, "window": "1h"}`)
	now := node.base.Add(time.Hour)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	keys := 1_000_000.0
	if raceEnabled {
		keys = 20_000
	}
	for i := range uint64(keys) {
		l.ask(i+1, now, 10)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	bytes := float64(after.HeapAlloc-before.HeapAlloc) / keys
	lost := 0
	for i := range uint64(keys) {
		if l.ask(i+1, now, 1).passes {
			lost++
		}
	}
	t.Logf("%.1f bytes a key; of a million keys %d were forgotten", bytes, lost)
	if bytes > 40 || lost > 0 {
		t.Errorf("%.1f bytes a key; %d were forgotten", bytes, lost)
	}
}

func BenchmarkTake(b *testing.B) {
	for _, c := range []struct{ name, limit string }{
		{"token_bucket", `{"limit": 1000000}`}, {"fixed_window", `{"algorithm": "fixed_window", "limit": 1000000000}`},
		{"sliding_window", `{"algorithm": "sliding_window", "limit": 8000000}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			for _, keys := range []uint64{1, 1000, 65536} {
				b.Run(fmt.Sprint(keys), func(b *testing.B) {
					l := newNode(b).limit(b, c.limit)
					now := time.Now()
					for i := range keys {
						l.ask(i+1, now, 1)
					}
					b.ReportAllocs()
					for i := uint64(0); b.Loop(); i++ {
						l.ask(i&(keys-1)+1, now, 1)
					}
				})
			}
		})
	}
}
