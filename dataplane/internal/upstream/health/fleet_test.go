package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/dataplane/internal/upstream/balance"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// simulated is a fleet whose nodes check one endpoint. A control plane is told every two seconds by each, and tells all
// of them.
type simulated struct {
	nodes  []*Checker
	states []*balance.State
	probes atomic.Int64
	dead   atomic.Bool
	logged *bytes.Buffer // of the first node
	stop   chan struct{}
	wg     sync.WaitGroup

	mu      sync.Mutex
	said    []uint32 // by node: at how many addresses the endpoint fails
	failing uint32   // what was told last
	toldAt  time.Time
}

// newSimulated must be called in a bubble of synctest; close ends it.
func newSimulated(nodes int, check func(*Target)) *simulated {
	s := &simulated{said: make([]uint32, nodes), stop: make(chan struct{}), logged: &bytes.Buffer{}}
	probe := func(context.Context, Target) error {
		s.probes.Add(1)
		if s.dead.Load() {
			return errors.New("refused")
		}
		return nil
	}
	for i := range nodes {
		log := slog.New(slog.DiscardHandler)
		if i == 0 {
			log = slog.New(slog.NewTextHandler(s.logged, nil))
		}
		c := NewChecker(log, probe)
		t := target(&balance.State{})
		t.Host = "10.0.0.1"
		t.Check.Interval, t.Check.UnhealthyInterval, t.Check.Timeout = 10*time.Second, 10*time.Second, 2*time.Second
		t.Check.Checkers = 10
		check(&t)
		s.nodes, s.states = append(s.nodes, c), append(s.states, t.State)
		c.Set([]Target{t})
		c.SetNodes(nodes)
	}
	for i := range nodes {
		s.wg.Go(func() { s.reports(i) })
	}
	return s
}

func (s *simulated) reports(node int) {
	time.Sleep(rand.N(2 * time.Second)) // virtual
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		for _, h := range verdicts(s.nodes[node], false) {
			s.report(node, h.GetFailingAddresses())
		}
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
	}
}

func (s *simulated) report(node int, failing uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.said[node]
	s.said[node] = failing
	if was == failing || failing == s.failing || len(s.nodes) < 2 {
		return
	}
	s.failing = failing
	wait := max(time.Until(s.toldAt.Add(5*time.Second)), time.Second)
	s.toldAt = time.Now().Add(wait)
	s.wg.Go(func() {
		time.Sleep(wait) // virtual
		for _, c := range s.nodes {
			c.Look([]*streamv1.CheckedEndpoint{{ServiceId: "s", Host: "10.0.0.1", Port: 1}})
		}
	})
}

func (s *simulated) close() {
	close(s.stop)
	s.wg.Wait()
	for _, c := range s.nodes {
		c.Close()
	}
}

// rate returns the checks per second.
func (s *simulated) rate(within time.Duration) float64 {
	before := s.probes.Load()
	time.Sleep(within) // virtual
	return float64(s.probes.Load()-before) / within.Seconds()
}

// becomes returns how long it takes until all nodes know.
func (s *simulated) becomes(t *testing.T, dead bool) time.Duration {
	t.Helper()
	s.dead.Store(dead)
	begun := time.Now()
	for time.Since(begun) < 10*time.Minute {
		time.Sleep(100 * time.Millisecond) // virtual
		know := true
		for _, state := range s.states {
			know = know && state.Healthy() != dead
		}
		if know {
			return time.Since(begun)
		}
	}
	t.Fatalf("not all nodes know within 10 minutes that the endpoint is dead: %v", dead)
	return 0
}

// TestChecksOfAFleet measures what the guide says of 1, 10 and 100 nodes.
func TestChecksOfAFleet(t *testing.T) {
	for _, c := range []struct {
		nodes, checkers int
		rate            [2]float64    // checks per second
		settle          time.Duration // until checks are made at their final interval
		known           time.Duration // that it has died
	}{
		{1, 10, [2]float64{0.08, 0.12}, 4 * time.Minute, 33 * time.Second},
		{10, 10, [2]float64{0.9, 1.1}, time.Minute, 33 * time.Second},
		{100, 0, [2]float64{9, 11}, 30 * time.Second, 33 * time.Second},
		{100, 10, [2]float64{0.75, 1.3}, 5 * time.Minute, 36 * time.Second},
	} {
		t.Run(fmt.Sprintf("%d nodes, %d checkers", c.nodes, c.checkers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSimulated(c.nodes, func(t *Target) { t.Check.Checkers = c.checkers })
				defer s.close()
				time.Sleep(c.settle + rand.N(30*time.Second))
				death := s.becomes(t, true)
				time.Sleep(c.settle + rand.N(30*time.Second))
				birth := s.becomes(t, false)
				time.Sleep(c.settle)
				rate := s.rate(c.settle)
				t.Logf("%.2f checks/s, death known to all after %s, return after %s", rate, death, birth)
				if rate < c.rate[0] || rate > c.rate[1] {
					t.Errorf("%.2f checks per second, want %v", rate, c.rate)
				}
				if death > c.known || birth > c.known {
					t.Errorf("a death was known to all after %s, a return after %s; want %s", death, birth, c.known)
				}
				if n := strings.Count(s.logged.String(), "\n"); n != 2 {
					t.Errorf("a node has logged %d transitions of 2:\n%s", n, s.logged)
				}
			})
		})
	}
}

// TestChecksWithoutAControlPlane: a node goes back to the plain interval when the stream is lost for a while, at once
// when there are fewer nodes, and not where the stream is back in time.
func TestChecksWithoutAControlPlane(t *testing.T) {
	alone := func(c *Checker) { c.Unshared() }
	for _, step := range []struct {
		what    string
		do      func(c *Checker)
		stretch bool
	}{
		{"the stream lasts", func(*Checker) {}, true},
		{"the stream is lost", alone, false},
		{"the stream is lost again and again", func(c *Checker) {
			for range 10 {
				c.Unshared()
				time.Sleep(3 * time.Second)
			}
		}, false},
		{"another stream tells it", func(c *Checker) {
			c.Unshared()
			time.Sleep(9 * time.Second)
			c.SetNodes(100)
		}, true},
		{"another stream is an older control plane's", func(c *Checker) {
			c.Unshared()
			time.Sleep(time.Second)
			c.Look(nil)
		}, false},
		{"others leave", func(c *Checker) { c.SetNodes(5) }, false},
	} {
		t.Run(step.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSimulated(1, func(*Target) {})
				defer s.close()
				s.nodes[0].SetNodes(100)
				time.Sleep(5 * time.Minute)
				step.do(s.nodes[0])
				time.Sleep(aloneAfter)
				before := s.probes.Load()
				time.Sleep(11 * time.Second) // an interval, with its jitter
				soon := s.probes.Load() - before
				rate := s.rate(30 * time.Minute)
				if !step.stretch && (rate < 0.09 || soon == 0) || step.stretch && rate > 0.02 {
					t.Errorf("%.3f checks per second, %d in the first 11 s; stretched is 0.01, plain 0.1", rate, soon)
				}
			})
		})
	}
}

// TestWhatIsNotStretched: a node never looks less often where nobody else looks at the same, where the configuration
// says so, or before the state is settled.
func TestWhatIsNotStretched(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*Target)
		passed int
		nodes  int
		want   float64
	}{
		{"many nodes", func(*Target) {}, 3, 100, 10},
		{"as many as checkers", func(*Target) {}, 3, 10, 1},
		{"a few more than checkers", func(*Target) {}, 3, 12, 1.2},
		{"one checker", func(t *Target) { t.Check.Checkers = 1 }, 3, 2, 2},
		{"an unsettled state", func(*Target) {}, 2, 100, 1},
		{"a threshold that is not reached", func(t *Target) { t.Check.Healthy = 5 }, 4, 100, 1},
		{"never", func(t *Target) { t.Check.Checkers = 0 }, 3, 100, 1},
		{"nobody tells", func(*Target) {}, 3, 0, 1},
		{"a loopback address", func(t *Target) { t.Host = "127.0.0.1" }, 3, 100, 1},
		{"a loopback address of IPv6", func(t *Target) { t.Host = "::1" }, 3, 100, 1},
		{"a name of the machine", func(t *Target) { t.Host = "localhost" }, 3, 100, 1},
		{"a name with a loopback address", func(t *Target) { t.Dial[0] = "127.0.0.1:80" }, 3, 100, 1},
		{"a link-local address", func(t *Target) { t.Dial[0] = "[fe80::1%eth0]:80" }, 3, 100, 1},
		{"a socket", func(t *Target) { t.Host = "unix:/run/x.sock" }, 3, 100, 1},
	} {
		one := target(&balance.State{})
		one.Check.Checkers = 10
		c.change(&one)
		w := &watch{target: one, passed: c.passed, own: isOwn(&one)}
		var sum, least time.Duration = 0, time.Hour
		for range 2000 {
			d := w.interval(c.nodes)
			sum, least = sum+d, min(least, d)
		}
		mean := sum.Seconds() / 2000
		if mean < 0.95*c.want || mean > 1.05*c.want || least < 950*time.Millisecond {
			t.Errorf("%s: an interval of 1 s is %.2f s, and %s at least; want %.1f s", c.what, mean, least, c.want)
		}
	}
}

// TestFailingAddresses: control planes are told at how many of an endpoint's addresses the last check failed.
func TestFailingAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Pointer[string]
		failing.Store(new(string))
		c := NewChecker(slog.New(slog.DiscardHandler), func(_ context.Context, t Target) error {
			if strings.Contains(*failing.Load(), t.Dial[0]) {
				return errors.New("refused")
			}
			return nil
		})
		defer c.Close()
		var targets []Target
		for _, address := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
			next := target(&balance.State{})
			next.Dial[0] = address
			targets = append(targets, next)
		}
		c.Set(targets)
		for _, step := range []struct {
			failing string
			want    uint32
		}{{"", 0}, {"10.0.0.1:80", 1}, {"10.0.0.1:80 10.0.0.2:80", 2}, {"10.0.0.2:80", 1}, {"", 0}} {
			failing.Store(&step.failing)
			time.Sleep(2 * time.Second)
			if v := verdicts(c, false); len(v) != 1 || v[0].GetFailingAddresses() != step.want {
				t.Errorf("%q fail: %v", step.failing, v)
			}
		}
	})
}
