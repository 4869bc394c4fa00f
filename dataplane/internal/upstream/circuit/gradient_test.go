package circuit

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/shared/config"
)

// measured returns a circuit with a limit of 3 that has just measured 10 ms, and the time.
func measured(t *testing.T, set *config.Circuit) (Circuit, time.Time) {
	t.Helper()
	c, now := New(set, nil, start), start
	for range set.Adaptive.Requests {
		now = one(t, c, now, 10*time.Millisecond)
	}
	if s := c.Status(now); s.MinRTT < 10*time.Millisecond || s.MinRTT > 11*time.Millisecond || s.Limit != 3 {
		t.Fatalf("after the measurement: a limit of %d, and %s without load", s.Limit, s.MinRTT)
	}
	return c, now
}

// one has one request answered, and returns when it was.
func one(t *testing.T, c Circuit, now time.Time, took time.Duration) time.Time {
	t.Helper()
	var p Permit
	if v := c.Admit(now, 0, &p); v != Admitted {
		t.Fatalf("a single request is %s", v.text())
	}
	end := now.Add(took)
	p.Ended(&outcome.Result{Kind: outcome.Answered, Status: 200, Begun: now, Took: took, Ended: end})
	p.Leave()
	return end
}

// grown is a circuit that has measured and whose limit has grown since.
func grown(t *testing.T, set *config.Circuit, least int) (Circuit, time.Time) {
	t.Helper()
	c, now := measured(t, set)
	for c.Status(now).Limit < least {
		now = one(t, c, now, 10*time.Millisecond)
	}
	return c, now
}

func TestGradient(t *testing.T) {
	set := adaptive(config.WindowCircuit).Adaptive
	set.MinLimit, set.MaxLimit = 10, 200
	for _, c := range []struct {
		name   string
		buffer float64
		limit  int64
		rtt    time.Duration
		want   int64
	}{
		{"as long as without load", 0, 100, 10 * time.Millisecond, 110},
		{"within the buffer", 0.25, 100, 12500 * time.Microsecond, 110},
		{"shorter by the buffer", 0.25, 64, 10 * time.Millisecond, 88},
		{"half as long", 0.25, 64, 5 * time.Millisecond, 139},
		{"longer by half", 0, 96, 15 * time.Millisecond, 72},
		{"ten times as long", 0, 128, 100 * time.Millisecond, 72},
		{"down to the least", 0, 11, 100 * time.Millisecond, 10},
		{"up to the most", 0, 190, 10 * time.Millisecond, 200},
	} {
		g := newGradient(set)
		g.set.Buffer = c.buffer
		g.limit.Store(c.limit)
		if got := g.next(int64(10*time.Millisecond), int64(c.rtt)); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestWhatIsMeasured has failures and what other load was there for say nothing of the time without load, and times
// that are over count against the limit.
func TestWhatIsMeasured(t *testing.T) {
	for _, c := range []struct {
		name   string
		r      outcome.Result
		counts bool // in a measurement
		lowers bool // in a window
	}{
		{name: "an answer", r: outcome.Result{Kind: outcome.Answered, Status: 404}, counts: true, lowers: true},
		{name: "an error", r: outcome.Result{Kind: outcome.Answered, Status: 500}},
		{name: "no connection", r: outcome.Result{Kind: outcome.ConnectFailed}},
		{name: "the client's going", r: outcome.Result{Kind: outcome.Canceled}},
		{name: "no answer in time", r: outcome.Result{Kind: outcome.TimedOut}, lowers: true},
	} {
		set := adaptive(config.WindowCircuit)
		set.Minimum = 1000
		g := newGradient(set.Adaptive)
		c.r.Took = time.Second
		g.sample(0, 0, &c.r)
		if got := g.measured.Load() == 1; got != c.counts {
			t.Errorf("%s counts in a measurement: %t", c.name, got)
		}
		circuit, now := grown(t, set, 100)
		now = now.Add(time.Second)
		before := circuit.Status(now).Limit
		var p Permit
		circuit.Admit(now, 0, &p)
		c.r.Begun, c.r.Ended = now, now.Add(time.Second)
		p.Ended(&c.r)
		p.Leave()
		if got := circuit.Status(now).Limit < before; got != c.lowers {
			t.Errorf("%s lowers the limit: %t", c.name, got)
		}
	}
	// What began before a measurement ends within it.
	circuit, now := grown(t, adaptive(config.WindowCircuit), 100)
	var old Permit
	circuit.Admit(now, 0, &old)
	begun := now
	g := circuit.core().gradient.Load()
	for !g.measuring.Load() {
		now = one(t, circuit, now.Add(time.Second), 10*time.Millisecond)
	}
	old.Ended(&outcome.Result{Kind: outcome.Answered, Status: 200, Begun: begun, Took: now.Sub(begun), Ended: now})
	old.Leave()
	if n := g.measured.Load(); n != 0 {
		t.Errorf("what began before the measurement is in it: %d", n)
	}
}

// TestMeasurementDoesNotStarve has a measurement begin while many are under way that do not come to an end: others are
// refused for no longer than the service takes to answer a few times.
func TestMeasurementDoesNotStarve(t *testing.T) {
	for _, kind := range []string{config.WindowCircuit, config.HystrixCircuit} {
		for _, known := range []bool{true, false} {
			set := adaptive(kind)
			c, now := New(set, nil, start), start
			most := firstPatience
			long := 3
			if known {
				c, now = grown(t, set, 100)
				now = now.Add(2 * set.Adaptive.Interval)
				most, long = 100*time.Millisecond, 20 // eight times 10 ms, and a window at least
			}
			held := make([]Permit, long)
			for i := range held {
				if v := c.Admit(now, 0, &held[i]); v != Admitted {
					t.Fatalf("%s: the %d. download is %s", kind, i+1, v.text())
				}
			}
			limit := c.Status(now).Limit
			if known {
				now = one(t, c, now, 10*time.Millisecond) // with which the measurement begins
			}
			var p Permit
			refused := now
			for c.Admit(now, 0, &p) != Admitted {
				if now = now.Add(time.Millisecond); now.Sub(refused) > most+time.Millisecond {
					t.Fatalf("%s, known %t: requests are refused for %s", kind, known, now.Sub(refused))
				}
			}
			if known && now.Equal(refused) {
				t.Errorf("%s: nothing was refused: was there a measurement?", kind)
			}
			if got := c.Status(now).Limit; known && got < limit || !known && got != set.Adaptive.MaxLimit {
				t.Errorf("%s, known %t: after it the limit is %d, before it %d", kind, known, got, limit)
			}
		}
	}
}

// TestMeasurementOfLittleTraffic ends after a tenth of the interval, with what there was.
func TestMeasurementOfLittleTraffic(t *testing.T) {
	set := adaptive(config.WindowCircuit)
	c, now := New(set, nil, start), start
	now = now.Add(time.Hour) // the time begins with the first response
	for range 6 {
		now = one(t, c, now, 10*time.Millisecond).Add(990 * time.Millisecond)
	}
	if s := c.Status(now); s.MinRTT != 0 {
		t.Errorf("after 6 s: %s", s.MinRTT)
	}
	now = one(t, c, now, 10*time.Millisecond)
	if s := c.Status(now); s.MinRTT == 0 {
		t.Error("it goes on after a tenth of the interval")
	}
}

// TestStreamsDoNotCount: what the service works at is limited, and not what it has answered.
func TestStreamsDoNotCount(t *testing.T) {
	for _, kind := range []string{config.WindowCircuit, config.HystrixCircuit} {
		c, now := measured(t, adaptive(kind))
		streams := make([]Permit, 10)
		for i := range streams {
			p := &streams[i]
			if v := c.Admit(now, 0, p); v != Admitted {
				t.Fatalf("%s: the %d. stream is %s", kind, i+1, v.text())
			}
			p.Ended(&outcome.Result{Kind: outcome.Answered, Status: 200, Begun: now, Took: time.Millisecond, Ended: now})
			p.Stream()
		}
		for i := range streams {
			streams[i].Leave()
		}
		if n := c.Status(now).Concurrent; n != 0 {
			t.Errorf("%s: %d are under way in the end", kind, n)
		}
	}
	c := New(settings(config.HystrixCircuit), nil, start)
	var p Permit
	c.Admit(start, 0, &p)
	p.Stream()
	if n := c.Status(start).Concurrent; n != 1 {
		t.Errorf("in a bulkhead a stream counts %d times, want 1", n)
	}
}

// TestQueueOfALimitThatChanges has those that wait get their place when the limit rises.
func TestQueueOfALimitThatChanges(t *testing.T) {
	set := adaptive(config.HystrixCircuit)
	set.Pending = 10
	c, now := measured(t, set)
	q := c.(Queuing)
	held := make([]Permit, 3)
	for i := range held {
		c.Admit(now, 0, &held[i])
	}
	waiters := make([]*Waiter, 3)
	for i := range waiters {
		waiters[i] = NewWaiter()
		if v := c.Admit(now, 0, &Permit{}); v != Busy || q.Queue(waiters[i]) != Busy {
			t.Fatalf("the %d. beside the limit is %s", i+4, v.text())
		}
	}
	end := now.Add(200 * time.Millisecond)
	held[0].Ended(&outcome.Result{Kind: outcome.Answered, Status: 200, Begun: now, Took: 10 * time.Millisecond,
		Ended: end})
	held[0].Leave()
	for i, w := range waiters { // the limit is 3*1.25+sqrt(3.75), and two others are under way
		if has := q.Unqueue(w); has != (i < 3) {
			t.Errorf("the %d. that waits has a place: %t", i+1, has)
		}
	}
}

// TestSettingsOfALimitChange: they hold at once, and what was learned stays; a reset forgets it.
func TestSettingsOfALimitChange(t *testing.T) {
	set := adaptive(config.WindowCircuit)
	c, now := grown(t, set, 100)
	limit := c.Status(now).Limit
	check := func(what string, want int, known bool) {
		t.Helper()
		if s := c.Status(now); s.Limit != want || s.MinRTT > 0 != known {
			t.Errorf("%s: a limit of %d, and %s without load; want %d, and that it is known: %t",
				what, s.Limit, s.MinRTT, want, known)
		}
	}
	change := func(edit func(*config.Circuit)) {
		next := *set
		edit(&next)
		set = &next
		c = New(set, c, now)
	}
	change(func(s *config.Circuit) { s.Timeout *= 2 })
	check("another timeout", limit, true)
	change(func(s *config.Circuit) { s.Adaptive.MaxLimit = 50 })
	check("a lower maximum", 50, true)
	change(func(s *config.Circuit) { s.Adaptive.MaxLimit, s.Adaptive.MinLimit = 500, 70 })
	check("a higher minimum", 70, true)
	var p Permit
	c.Admit(now, 0, &p)
	change(func(s *config.Circuit) { s.Type = config.HystrixCircuit })
	check("another type", 70, true)
	p.Leave()
	change(func(s *config.Circuit) { s.Adaptive = config.Adaptive{} })
	check("no limit", 0, false)
	c.Admit(now, 0, &p)
	change(func(s *config.Circuit) { s.Adaptive = adaptive("").Adaptive })
	check("a limit again", 3, false)
	if n := c.Status(now).Concurrent; n != 1 {
		t.Errorf("%d are under way, want the one from before", n)
	}
	p.Leave()
	c, now = grown(t, adaptive(config.WindowCircuit), 100)
	c.Reset(now)
	check("a reset", 3, false)
}

// TestLimitStaysWithinItsBounds goes through random traffic in virtual time.
func TestLimitStaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := adaptive(rapid.SampledFrom([]string{config.WindowCircuit, config.HystrixCircuit}).Draw(t, "type"))
		a := &set.Adaptive
		a.MinLimit = rapid.IntRange(1, 20).Draw(t, "least")
		a.MaxLimit = rapid.IntRange(a.MinLimit, 60).Draw(t, "most")
		a.MinConcurrency = rapid.IntRange(1, a.MinLimit).Draw(t, "while it measures")
		a.Requests = rapid.IntRange(1, 20).Draw(t, "requests")
		a.Interval = 10 * time.Second
		c, now := New(set, nil, start), start
		var held []*simulated
		refusedSince := time.Time{}
		kinds := []outcome.Kind{outcome.Answered, outcome.Answered, outcome.Answered, outcome.TimedOut, outcome.Canceled}
		t.Repeat(map[string]func(*rapid.T){
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "ms")) * time.Millisecond)
			},
			"requests come": func(t *rapid.T) {
				for range rapid.IntRange(1, 30).Draw(t, "how many") {
					one := &simulated{begun: now}
					limit, under := c.Status(now).Limit, len(held)
					v := c.Admit(now, 0, &one.permit)
					switch s := c.Status(now); {
					case v == Admitted:
						held = append(held, one)
						if under >= max(limit, s.Limit) {
							t.Fatalf("%d under way, and a limit of %d", len(held), s.Limit)
						}
						refusedSince = time.Time{}
					case v == Full && under < limit:
						t.Fatalf("refused with %d under way, and a limit of %d", under, limit)
					case v == Full && s.Limit < a.MinLimit:
						if refusedSince.IsZero() {
							refusedSince = now
						}
						if now.Sub(refusedSince) > a.Interval/partOfInterval {
							t.Fatalf("a measurement keeps requests away since %s", now.Sub(refusedSince))
						}
					default:
						refusedSince = time.Time{}
					}
				}
			},
			"one ends": func(t *rapid.T) {
				if len(held) == 0 {
					t.Skip("there is none")
				}
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				p := held[i]
				held = append(held[:i:i], held[i+1:]...)
				r := &outcome.Result{Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Status: 200, Begun: p.begun, Ended: now,
					Took: now.Sub(p.begun)}
				if rapid.Bool().Draw(t, "stream") {
					p.permit.Ended(r)
					p.permit.Stream()
				}
				p.permit.Ended(r)
				p.permit.Leave()
				refusedSince = time.Time{}
			},
			"": func(t *rapid.T) {
				s := c.Status(now)
				measuring := c.core().gradient.Load().measuring.Load()
				if s.Limit > a.MaxLimit || s.Limit < a.MinLimit && (!measuring || s.Limit != a.MinConcurrency) {
					t.Fatalf("a limit of %d", s.Limit)
				}
				if s.Concurrent != len(held) {
					t.Fatalf("%d are counted, and %d under way", s.Concurrent, len(held))
				}
			},
		})
	})
}

// TestLimitUnderLoad has many ask at once: never are more under way than may be, and no place is lost.
func TestLimitUnderLoad(t *testing.T) {
	set := adaptive(config.WindowCircuit)
	set.Adaptive.MaxLimit = 6
	c := New(set, nil, start)
	var running atomic.Int64
	var clock atomic.Int64
	var work sync.WaitGroup
	for i := range 12 {
		work.Go(func() {
			for range 500 {
				now := start.Add(time.Duration(clock.Add(1)) * 20 * time.Millisecond)
				var p Permit
				if c.Admit(now, uint32(i), &p) != Admitted {
					continue
				}
				if n := running.Add(1); n > 6 {
					t.Errorf("%d at once", n)
				}
				p.Ended(&outcome.Result{Kind: outcome.Answered, Status: 200, Begun: now, Took: time.Millisecond, Ended: now})
				running.Add(-1)
				p.Leave()
			}
		})
	}
	work.Wait()
	if s := c.Status(start); s.Concurrent != 0 || s.MinRTT == 0 {
		t.Errorf("in the end: %+v", s)
	}
}

func TestLimitDoesNotAllocate(t *testing.T) {
	for _, kind := range []string{config.WindowCircuit, config.HystrixCircuit} {
		c, now := grown(t, adaptive(kind), 100)
		one(t, c, now, time.Millisecond)
		var p Permit
		r := outcome.Result{Kind: outcome.Answered, Status: 200, Took: time.Millisecond}
		if n := testing.AllocsPerRun(1000, func() {
			now = now.Add(30 * time.Millisecond) // a window ends with each fourth
			c.Admit(now, 0, &p)
			r.Begun, r.Ended = now, now
			p.Ended(&r)
			p.Leave()
		}); n > 0 {
			t.Errorf("%s: %v allocations", kind, n)
		}
	}
}
