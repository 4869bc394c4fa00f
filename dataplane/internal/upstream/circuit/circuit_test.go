package circuit

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/shared/config"
)

func settings(kind string) *config.Circuit {
	return &config.Circuit{Type: kind, Probes: 3, Interval: 10 * time.Second, Timeout: 5 * time.Second,
		MaxTimeout: 20 * time.Second, Threshold: 0.5, Minimum: 4}
}

var start = time.Unix(1e9, 0)

// ask goes through one attempt, and reports whether it was admitted.
func ask(c Circuit, now time.Time, r outcome.Result) bool {
	var p Permit
	if c.Admit(now, 0, &p) != Admitted {
		return false
	}
	r.Begun, r.Ended = now, now
	p.Ended(&r)
	p.Leave()
	return true
}

var (
	good = outcome.Result{Kind: outcome.Answered, Status: 200}
	bad  = outcome.Result{Kind: outcome.Answered, Status: 503}
)

// TestProbesOfAHalfOpenCircuit has many ask at once when the time of an open circuit is over.
func TestProbesOfAHalfOpenCircuit(t *testing.T) {
	for _, kind := range []string{config.WindowCircuit, config.HystrixCircuit} {
		c := New(settings(kind), nil, start)
		for range 4 {
			ask(c, start, bad)
		}
		now := start.Add(5 * time.Second)
		for round := range 50 {
			var admitted, most atomic.Int64
			var work sync.WaitGroup
			for range 16 {
				work.Go(func() {
					for range 20 {
						var p Permit
						if c.Admit(now, 0, &p) == Admitted {
							most.Store(max(most.Load(), admitted.Add(1)))
							r := outcome.Result{Ended: now} // which says nothing, and gives its place to another one
							admitted.Add(-1)
							p.Ended(&r)
							p.Leave()
						}
					}
				})
			}
			work.Wait()
			if most.Load() > 3 {
				t.Fatalf("%s, round %d: %d at once, want at most 3", kind, round, most.Load())
			}
		}
		var held [3]Permit
		for i := range held {
			if c.Admit(now, 0, &held[i]) != Admitted {
				t.Errorf("%s: the %d. place was lost", kind, i+1)
			}
		}
		if ask(c, now, good) {
			t.Errorf("%s: there was a fourth place", kind)
		}
		for i := range held {
			r := good
			r.Ended = now
			held[i].Ended(&r)
			held[i].Leave()
		}
		if s := c.Status(now); s.State != Closed {
			t.Errorf("%s: it is %s after three good responses", kind, s.State)
		}
	}
}

func TestOpenTimeGrows(t *testing.T) {
	c := New(settings(config.WindowCircuit), nil, start)
	now := start
	for range 4 {
		ask(c, now, bad)
	}
	for _, want := range []time.Duration{5, 10, 20, 20} {
		want *= time.Second
		if got := c.RetryAfter(now); got != want {
			t.Errorf("Retry-After %s, want %s", got, want)
		}
		if now = now.Add(want); ask(c, now.Add(-1), bad) || !ask(c, now, bad) {
			t.Errorf("it is not tried again exactly %s later", want)
		}
	}
	c.Set(&config.Circuit{Type: config.WindowCircuit, Probes: 1, Interval: 10 * time.Second, Timeout: time.Second,
		MaxTimeout: time.Second, Threshold: 0.5, Minimum: 4})
	if !ask(c, now.Add(time.Second), good) || c.Status(now).State != Closed {
		t.Error("new settings do not hold at once")
	}
}

func TestBulkhead(t *testing.T) {
	set := settings(config.HystrixCircuit)
	set.Concurrent, set.Pending = 2, 1
	c := New(set, nil, start).(Queuing)
	var one, two, three Permit
	if c.Admit(start, 0, &one) != Admitted || c.Admit(start, 0, &two) != Admitted {
		t.Fatal("two places were not there")
	}
	if v := c.Admit(start, 0, &three); v != Busy {
		t.Fatalf("the third got %s", v.text())
	}
	w, late := NewWaiter(), NewWaiter()
	if v := c.Queue(w); v != Busy {
		t.Fatalf("the wait: %s", v.text())
	}
	if v := c.Queue(late); v != Full {
		t.Fatalf("the fourth got %s", v.text())
	}
	one.Leave()
	if len(w.Done) != 1 || !c.Unqueue(w) || c.Enter(start, 0, &three) != Admitted {
		t.Fatal("who waited did not get the place")
	}
	two.Leave()
	three.Leave()
	if s := c.Status(start); s.Concurrent != 0 || s.Pending != 0 || s.Rejected != 1 {
		t.Errorf("in the end: %+v", s)
	}
}

// TestBulkheadUnderLoad never has more under way than there may be, and loses no place.
func TestBulkheadUnderLoad(t *testing.T) {
	set := settings(config.HystrixCircuit)
	set.Concurrent, set.Pending = 3, 100
	c := New(set, nil, start).(Queuing)
	var running atomic.Int64
	var work sync.WaitGroup
	for range 12 {
		work.Go(func() {
			for range 500 {
				var p Permit
				if v := c.Admit(start, 0, &p); v == Busy {
					w := NewWaiter()
					if v = c.Queue(w); v == Busy {
						<-w.Done
						if !c.Unqueue(w) {
							t.Error("woken without a place")
							return
						}
					}
					c.Enter(start, 0, &p)
				}
				if n := running.Add(1); n > 3 {
					t.Errorf("%d at once", n)
				}
				running.Add(-1)
				p.Leave()
			}
		})
	}
	work.Wait()
	if s := c.Status(start); s.Concurrent != 0 || s.Pending != 0 {
		t.Errorf("in the end: %+v", s)
	}
}

// TestLimitOfThoseUnderWay has a limit hold for those too that have begun when there was none.
func TestLimitOfThoseUnderWay(t *testing.T) {
	set := settings(config.HystrixCircuit)
	c := New(set, nil, start)
	var before [3]Permit
	for i := range before {
		if v := c.Admit(start, uint32(i), &before[i]); v != Admitted {
			t.Fatalf("without a limit: %s", v.text())
		}
	}
	limited := *set
	limited.Concurrent = 3
	c.Set(&limited)
	var p Permit
	if v := c.Admit(start, 0, &p); v != Full {
		t.Errorf("beside three under way the fourth got %s", v.text())
	}
	before[1].Leave()
	if v := c.Admit(start, 0, &p); v != Admitted {
		t.Errorf("after one has left: %s", v.text())
	}
	c.Set(set) // who has a place of the limited ones gives that one back
	p.Leave()
	before[0].Leave()
	before[2].Leave()
	if n := c.Status(start).Concurrent; n != 0 {
		t.Errorf("%d under way in the end", n)
	}
}

func TestTypeChanges(t *testing.T) {
	c := New(settings(config.WindowCircuit), nil, start)
	c.ForceOpen(start, time.Time{})
	next := New(settings(config.HystrixCircuit), c, start.Add(time.Minute))
	if s := next.Status(start); s.State != Forced || !s.Since.Equal(start) || s.To[Forced] != 1 || ask(next, start, good) {
		t.Errorf("what was forced is %+v", s)
	}
}

// TestStatusWithoutRequests has the time be over for which a circuit was open, while nobody asks.
func TestStatusWithoutRequests(t *testing.T) {
	set := settings(config.WindowCircuit)
	forced := New(set, nil, start)
	forced.ForceOpen(start, start.Add(set.Timeout))
	opened := New(set, nil, start)
	for range 100 {
		ask(opened, start, bad)
	}
	for want, c := range map[State]Circuit{Forced: forced, Opened: opened} {
		end := start.Add(set.Timeout)
		if s := c.Status(end.Add(-1)); s.State != want || !s.Until.Equal(end) {
			t.Errorf("before its end: %+v", s)
		}
		if s := c.Status(end); s.State != HalfOpen || !s.Since.Equal(end) || !s.Until.IsZero() || s.To[HalfOpen] != 0 {
			t.Errorf("%s until %s, at its end: %+v", want, end, s)
		}
	}
}

func TestSlotOf(t *testing.T) {
	m, set := machine{}, settings(config.WindowCircuit)
	length := int64(set.Interval) / slots
	for _, at := range []int64{
		0, length - 1, length, 5*length + 1, 5 * length, 5*length - 1, 6 * length, 6*length - 1, 7 * length,
	} {
		if got, want := m.slotOf(at, &counting{Circuit: set}), uint32(at/length); got != want {
			t.Errorf("%d is in slot %d, want %d", at, got, want)
		}
	}
}

// TestTransitionsAreTold has many fail at once: each transition is told of once.
func TestTransitionsAreTold(t *testing.T) {
	for _, kind := range []string{config.WindowCircuit, config.HystrixCircuit} {
		c := New(settings(kind), nil, start)
		var mu sync.Mutex
		var told []Change
		c.Tell(func(change Change) {
			c.Status(start) // the circuit may be looked at
			mu.Lock()
			defer mu.Unlock()
			told = append(told, change)
		})
		var work sync.WaitGroup
		for range 16 {
			work.Go(func() { ask(c, start, bad) })
		}
		work.Wait()
		now := start.Add(5 * time.Second)
		ask(c, now, bad)
		now = now.Add(10 * time.Second)
		for range 3 {
			ask(c, now, good)
		}
		c.ForceOpen(now, time.Time{}) // who does that says so
		c.Reset(now)
		want := []Change{
			{Closed, Opened, ErrorThreshold}, {Opened, HalfOpen, TimeOver}, {HalfOpen, Opened, TriesFailed},
			{Opened, HalfOpen, TimeOver}, {HalfOpen, Closed, TriesSucceeded},
		}
		if !slices.Equal(told, want) {
			t.Errorf("%s: told of %v, want %v", kind, told, want)
		}
	}
}

func BenchmarkClosed(b *testing.B) {
	now := time.Now() // with the monotonic clock, as exchanges have it
	for _, c := range []struct {
		name, kind string
		limit      int
		adaptive   bool
	}{
		{"window", config.WindowCircuit, 0, false}, {"hystrix", config.HystrixCircuit, 0, false},
		{"bulkhead", config.HystrixCircuit, 100, false}, {"adaptive window", config.WindowCircuit, 0, true},
		{"adaptive hystrix", config.HystrixCircuit, 0, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			set := settings(c.kind)
			set.Concurrent = c.limit
			if c.adaptive {
				set.Adaptive = adaptive(c.kind).Adaptive
			}
			circuit := New(set, nil, now)
			b.ReportAllocs()
			var shards atomic.Uint32
			b.RunParallel(func(pb *testing.PB) {
				var p Permit
				shard := shards.Add(1)
				r := good
				r.Begun, r.Ended = now, now
				for pb.Next() {
					circuit.Admit(now, shard, &p)
					p.Ended(&r)
					p.Leave()
				}
			})
		})
	}
}
