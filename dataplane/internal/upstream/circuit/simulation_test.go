package circuit

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/shared/config"
)

func adaptive(kind string) *config.Circuit {
	set := settings(kind)
	set.Adaptive = config.Adaptive{MinLimit: 3, MaxLimit: 1000, Window: 100 * time.Millisecond, Percentile: 0.5,
		Buffer: 0.25, Interval: time.Minute, Jitter: 0.15, Requests: 50, MinConcurrency: 3}
	return set
}

// simulation is a service that works at a number of requests at once, and has others wait in the order in which they
// came, before a circuit that more ask for than there may be. Each moment is given: time is virtual.
type simulation struct {
	c       Circuit
	random  *rand.Rand
	now     time.Time
	free    []time.Time // when each worker is
	takes   time.Duration
	longer  time.Duration // by which the next one takes longer than all others
	running []*simulated  // by their end

	// what was seen since watch
	since    time.Time
	latency  []time.Duration
	limits   int // sum over the responses
	measured int // responses with a limit of a measurement
}

type simulated struct {
	permit     Permit
	begun, end time.Time
}

func simulate(c Circuit, workers int, takes time.Duration) *simulation {
	return &simulation{
		c: c, random: rand.New(rand.NewPCG(1, 2)), now: start, free: make([]time.Time, workers), takes: takes, since: start,
	}
}

// workers changes how many requests the service works at.
func (s *simulation) workers(n int) { s.free = make([]time.Time, n) }

// ask has one more request come, and reports whether it was admitted.
func (s *simulation) ask() bool {
	r := &simulated{begun: s.now}
	if s.c.Admit(s.now, 0, &r.permit) != Admitted {
		return false
	}
	first := 0
	for i := range s.free {
		if s.free[i].Before(s.free[first]) {
			first = i
		}
	}
	r.end = s.now
	if s.free[first].After(r.end) {
		r.end = s.free[first]
	}
	r.end = r.end.Add(time.Duration(float64(s.takes)*(0.9+0.2*s.random.Float64())) + s.longer)
	s.longer = 0
	s.free[first] = r.end
	at, _ := slices.BinarySearchFunc(s.running, r, func(a, b *simulated) int { return a.end.Compare(b.end) })
	s.running = slices.Insert(s.running, at, r)
	return true
}

// run lets time pass, in which there are always more requests than may be under way.
func (s *simulation) run(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		for s.ask() {
		}
		next := s.running[0]
		s.running = s.running[1:]
		s.now = next.end
		took := s.now.Sub(next.begun)
		next.permit.Ended(&outcome.Result{
			Kind: outcome.Answered, Status: 200, Begun: next.begun, Took: took, Ended: s.now,
		})
		next.permit.Leave()
		g := s.c.core().gradient.Load()
		s.latency = append(s.latency, took)
		if g.measuring.Load() {
			s.measured++
		} else {
			s.limits += int(g.limit.Load())
		}
	}
}

func (s *simulation) watch() {
	s.since, s.latency, s.limits, s.measured = s.now, nil, 0, 0
}

// check compares what was seen since watch with the best that there can be: there is a share of its throughput at
// least, and the limit and the median are at most so many times what would do.
func (s *simulation) check(t *testing.T, what string, least, most float64) {
	t.Helper()
	workers := float64(len(s.free))
	best := workers * float64(s.now.Sub(s.since)) / float64(s.takes)
	if share := float64(len(s.latency)) / best; share < least {
		t.Errorf("%s: %.0f %% of the best throughput, want %.0f %%", what, 100*share, 100*least)
	}
	limit := float64(s.limits) / float64(len(s.latency)-s.measured)
	if limit < workers || limit > most*workers {
		t.Errorf("%s: a limit of %.1f, want that it is near %.0f", what, limit, workers)
	}
	slices.Sort(s.latency)
	if median := s.latency[len(s.latency)/2]; float64(median) > most*float64(s.takes) {
		t.Errorf("%s: half of the responses come within %s, want near %s", what, median, s.takes)
	}
}

// TestLimitFollowsTheService has the limit come to what a service can do, and follow where that changes.
func TestLimitFollowsTheService(t *testing.T) {
	for _, kind := range []string{config.WindowCircuit, config.HystrixCircuit} {
		t.Run(kind, func(t *testing.T) {
			const takes = 50 * time.Millisecond
			s := simulate(New(adaptive(kind), nil, start), 20, takes)
			s.run(5 * time.Second) // a measurement, and the way up
			s.watch()
			s.run(80 * time.Second) // with another measurement
			s.check(t, "from the beginning", 0.9, 1.7)
			if s.measured == 0 {
				t.Error("there was no second measurement")
			}

			if kind != config.WindowCircuit {
				return // the limit is the same
			}
			s.workers(10)
			s.run(3 * time.Second)
			s.watch()
			s.run(20 * time.Second)
			s.check(t, "with half of the workers", 0.9, 1.7)
			s.workers(40)
			s.run(3 * time.Second)
			s.watch()
			s.run(20 * time.Second)
			s.check(t, "with twice as many as at first", 0.9, 1.7)

			s.workers(10)
			s.takes = 2 * takes
			s.run(75 * time.Second) // until the time without load is measured again
			s.watch()
			s.run(30 * time.Second)
			s.check(t, "twice as slow", 0.9, 2)
			s.takes = takes / 2
			s.run(75 * time.Second)
			s.watch()
			s.run(30 * time.Second)
			s.check(t, "four times as fast as that", 0.9, 2)
		})
	}
}

// TestSlowPhase has the limit fall to the lowest, where it does not wait for the next measurement to see that the
// service is just slower for all, and come back when the service does.
func TestSlowPhase(t *testing.T) {
	s := simulate(New(adaptive(config.WindowCircuit), nil, start), 10, 20*time.Millisecond)
	s.run(10 * time.Second)
	s.takes = 200 * time.Millisecond
	s.run(20 * time.Second)
	s.watch()
	s.run(10 * time.Second)
	s.check(t, "ten times as slow", 0.8, 2) // a window is shorter than a response: the limit swings
	s.takes = 20 * time.Millisecond
	s.run(75 * time.Second) // until the time without load is measured again
	s.watch()
	s.run(20 * time.Second)
	s.check(t, "as fast as before", 0.9, 1.7)
}

// TestOneSlowResponse has one response in a thousand take a hundred times as long: neither the limit nor what is
// measured goes by that.
func TestOneSlowResponse(t *testing.T) {
	const takes = 20 * time.Millisecond
	s := simulate(New(adaptive(config.WindowCircuit), nil, start), 20, takes)
	s.longer = 100 * takes // the first that is measured
	s.run(10 * time.Second)
	s.watch()
	for range 70 { // with another measurement
		s.longer = 100 * takes
		s.run(time.Second)
	}
	s.check(t, "one in a thousand", 0.8, 1.7) // a worker has it for two seconds of each one
	if rtt := s.c.Status(s.now).MinRTT; rtt < takes*9/10 || rtt > takes*13/10 {
		t.Errorf("%s without load, want %s", rtt, takes)
	}
}

// TestOneSlowResponseAmongFew has windows of one response each: one that is slow lowers the limit, but not to what a
// few requests would be refused by, and it rises again.
func TestOneSlowResponseAmongFew(t *testing.T) {
	c, now := grown(t, adaptive(config.WindowCircuit), 100)
	before := c.Status(now).Limit
	now = one(t, c, now.Add(time.Second), 10*time.Second)
	if limit := c.Status(now).Limit; limit < before/2 || limit >= before {
		t.Errorf("after it the limit is %d, before %d", limit, before)
	}
	for range 20 {
		now = one(t, c, now.Add(time.Second), 10*time.Millisecond)
	}
	if limit := c.Status(now).Limit; limit < before {
		t.Errorf("20 windows after it the limit is %d, before %d", limit, before)
	}
}

// TestServiceThatTakesLongerThanAMeasurement still has a limit that it can work with.
func TestServiceThatTakesLongerThanAMeasurement(t *testing.T) {
	s := simulate(New(adaptive(config.WindowCircuit), nil, start), 10, 10*time.Second)
	s.run(5 * time.Minute)
	s.watch()
	s.run(10 * time.Minute)
	best := 10 * float64(s.now.Sub(s.since)) / float64(s.takes)
	if share := float64(len(s.latency)) / best; share < 0.9 {
		t.Errorf("%.0f %% of the best throughput, want 90 %%", 100*share)
	}
}
