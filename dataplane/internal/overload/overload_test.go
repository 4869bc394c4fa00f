package overload

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"gateway.internal/shared/config"
)

// TestBands counts what each priority gets at a pressure.
func TestBands(t *testing.T) {
	for _, c := range []struct {
		pressure                    int64
		low, normal, high, critical float64 // that are served
	}{
		{0, 1, 1, 1, 1},
		{500, 1, 1, 1, 1},
		{550, .5, 1, 1, 1},
		{600, 0, 1, 1, 1},
		{800, 0, 1, 1, 1},
		{825, 0, .75, 1, 1},
		{900, 0, 0, 1, 1},
		{950, 0, 0, .5, 1},
		{1000, 0, 0, 0, 1},
		{1001, 0, 0, 0, 0},
		{2000, 0, 0, 0, 0},
	} {
		controller := New(Settings{MaxDelay: time.Second})
		controller.signals.Store(c.pressure)
		for p, want := range map[config.Priority]float64{
			config.PriorityLow: c.low, config.PriorityNormal: c.normal, config.PriorityHigh: c.high,
			config.PriorityCritical: c.critical,
		} {
			const n = 10_000
			served := 0
			for range n {
				if controller.Admit(p, 0) {
					served++
				}
			}
			if got := float64(served) / n; math.Abs(got-want) > .03 || (want == 0 || want == 1) && got != want {
				t.Errorf("at %d, %s: %v are served, want %v", c.pressure, p, got, want)
			}
			if got := controller.shed[p].Load(); got != uint64(n-served) {
				t.Errorf("at %d, %s: %d are counted, %d were turned away", c.pressure, p, got, n-served)
			}
		}
	}
}

// TestNoLimit: a node without limits has no controller, and that serves all.
func TestNoLimit(t *testing.T) {
	c := New(Settings{Shards: 4})
	if c != nil || !c.Admit(config.PriorityLow, 0) || !c.Stays(config.PriorityLow, 0) {
		t.Errorf("%v", c)
	}
	c.Leave(0)
	c.Run(t.Context())
}

// TestCountIsNearlyExact changes a count from many goroutines: in the end it is exact, and on the way not further off
// than a thirtieth of the limit.
func TestCountIsNearlyExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit, shards := rapid.IntRange(1, 5000).Draw(t, "limit"), rapid.IntRange(1, 8).Draw(t, "shards")
		c := newCount(limit, shards)
		under := map[uint32]int64{}
		n := int64(0)
		for range rapid.IntRange(1, 3000).Draw(t, "changes") {
			shard := rapid.Uint32Range(0, 15).Draw(t, "shard")
			by := int64(1)
			if under[shard] > 0 && rapid.IntRange(0, 2).Draw(t, "ends") == 0 {
				by = -1
			}
			under[shard] += by
			n += by
			if got := c.add(shard, by); math.Abs(float64(got-n)) > float64(limit)/30 {
				t.Fatalf("%d of %d, in %d shards: told as %d", n, limit, shards, got)
			}
		}
		if got := c.load(); got != n {
			t.Fatalf("%d, in truth %d", got, n)
		}
	})
	c := newCount(10_000, 4)
	var all sync.WaitGroup
	for shard := range uint32(8) {
		all.Go(func() {
			for range 10_000 {
				c.add(shard, 1)
			}
			for range 9_000 {
				c.add(shard, -1)
			}
		})
	}
	all.Wait()
	if n := c.load(); n != 8000 {
		t.Errorf("%d, want 8000", n)
	}
}

// TestOnlyStandingDelaysCount: what was over within the window is no overload.
func TestOnlyStandingDelaysCount(t *testing.T) {
	start := time.Now()
	for _, c := range []struct {
		name string
		late func(after time.Duration) time.Duration
		want time.Duration
	}{
		{"never", func(time.Duration) time.Duration { return 0 }, 0},
		{"always", func(time.Duration) time.Duration { return time.Second }, time.Second},
		{"now and then", func(d time.Duration) time.Duration {
			if d%(400*time.Millisecond) == 0 {
				return 0
			}
			return time.Second
		}, 0},
		{"for a while, and not any more", func(d time.Duration) time.Duration { return max(2*time.Second-d, 0) }, 0},
		{"more and more", func(d time.Duration) time.Duration { return d / 10 }, 190 * time.Millisecond},
	} {
		var d delays
		got := time.Duration(0)
		for after := time.Duration(0); after < 3*time.Second; after += look {
			got = d.add(start.Add(after), c.late(after))
			if after < window/2 && got != 0 {
				t.Errorf("%s: after %s it is %s already", c.name, after, got)
			}
		}
		if got < c.want || got > c.want+60*time.Millisecond {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if got := pressureOfDelay(400*time.Millisecond, 500*time.Millisecond); got != 800 {
		t.Errorf("%d", got)
	}
	if got := pressureOfDelay(time.Hour, 500*time.Millisecond); got != full {
		t.Errorf("critical requests are turned away for a delay, at %d", got)
	}
}

func TestPressureOfMemory(t *testing.T) {
	for needed, want := range map[int64]int64{0: 0, 500: 0, 700: 500, 820: 800, 900: 1000, 1000: 1250, 9000: 2000} {
		if got := pressureOfMemory(needed<<20, 1000<<20); got != want {
			t.Errorf("%d of 1000 MiB: %d, want %d", needed, got, want)
		}
	}
	if n := newMemory().needed(); n < 100<<10 || n > 4<<30 {
		t.Errorf("the process needs %d bytes", n)
	}
}

// TestRunLooks runs a controller whose process needs more memory than it may have, and no processor.
func TestRunLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Settings{MaxMemory: 1, MaxDelay: time.Second})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go c.Run(ctx)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if c.delay.Load() != 0 || c.memory.Load() != 2*full || c.Admit(config.PriorityCritical, 0) {
			t.Errorf("delay %d, memory %d", c.delay.Load(), c.memory.Load())
		}
	})
}

func TestLimitOfAControlGroup(t *testing.T) {
	for _, c := range []struct {
		name, proc string
		files      map[string]string
		want       int64
	}{
		{"version 2", "0::/a/b\n", map[string]string{"a/b/memory.max": "max\n", "a/memory.max": "1000000\n"}, 1000000},
		{"in a container", "0::/\n", map[string]string{"memory.max": "2000000\n"}, 2000000},
		{"the least", "0::/a/b\n", map[string]string{"a/b/memory.max": "500\n", "a/memory.max": "400\n"}, 400},
		{"version 1", "5:cpu:/x\n4:memory:/y\n", map[string]string{"memory/y/memory.limit_in_bytes": "300\n"}, 300},
		{"no limit in version 1", "4:memory:/\n", map[string]string{
			"memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 0},
		{"nothing", "0::/a\n", nil, 0},
		{"no file", "", nil, 0},
	} {
		folder := t.TempDir()
		for path, text := range c.files {
			path = filepath.Join(folder, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		proc := filepath.Join(folder, "cgroup")
		if c.proc != "" {
			if err := os.WriteFile(proc, []byte(c.proc), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := groupLimit(proc, folder); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func BenchmarkAdmit(b *testing.B) {
	c := New(Settings{MaxRequests: 10_000, MaxDelay: time.Second, Shards: 2})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Admit(config.PriorityNormal, 0)
			c.Leave(0)
		}
	})
}
