package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gateway.internal/dataplane/internal/upstream/balance"
	"gateway.internal/shared/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check() config.HealthCheck {
	return config.HealthCheck{
		Type: "http", Path: "/", Interval: time.Second, UnhealthyInterval: time.Second, Timeout: time.Second,
		JitterPercent: 5, Unhealthy: 3, Healthy: 2,
	}
}

func target(state *balance.State) Target {
	return Target{ServiceID: "s", Service: "users", Host: "h", Port: 1, State: state, Check: check()}
}

// scripted fails checks while broken is set, and counts them.
type scripted struct {
	broken atomic.Bool
	probes atomic.Int64
}

func (s *scripted) probe(context.Context, Target) error {
	s.probes.Add(1)
	if s.broken.Load() {
		return errors.New("broken")
	}
	return nil
}

// checks waits for n more checks.
func (s *scripted) checks(t *testing.T, n int64) {
	t.Helper()
	want := s.probes.Load() + n
	for range 100 {
		if s.probes.Load() >= want {
			synctest.Wait()
			return
		}
		time.Sleep(50 * time.Millisecond) // virtual
	}
	t.Fatalf("%d checks after five intervals", s.probes.Load())
}

func TestThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{}
		c := NewChecker(slog.New(slog.DiscardHandler), s.probe)
		defer c.Close()
		state := &balance.State{}
		c.Set([]Target{target(state)})
		s.checks(t, 3)
		if !state.Healthy() || len(verdicts(c, false)) != 1 || len(verdicts(c, false)) != 0 || len(verdicts(c, true)) != 1 {
			t.Error("a passing endpoint is not healthy and reported once")
		}
		s.broken.Store(true)
		s.checks(t, 2)
		if !state.Healthy() {
			t.Error("unhealthy before three checks failed")
		}
		s.checks(t, 1)
		if state.Healthy() {
			t.Error("healthy after three checks failed")
		}
		if r := verdicts(c, true); len(r) != 1 || r[0].GetHealthy() || r[0].GetError() != "broken" {
			t.Errorf("report %v", r)
		}
		s.broken.Store(false)
		s.checks(t, 1)
		renamed := target(state)
		renamed.Service = "people"
		c.Set([]Target{renamed}) // the same endpoint: its history stays
		if state.Healthy() {
			t.Error("healthy after one check")
		}
		s.checks(t, 1)
		if !state.Healthy() {
			t.Error("not healthy after two checks")
		}
	})
}

func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Time
		c := NewChecker(slog.New(slog.DiscardHandler), func(context.Context, Target) error {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Now())
			time.Sleep(300 * time.Millisecond) // virtual; a check's time is part of the interval
			return nil
		})
		begun := time.Now()
		c.Set([]Target{target(&balance.State{})})
		time.Sleep(20 * time.Second)
		c.Close()
		if len(at) < 19 || len(at) > 22 {
			t.Errorf("%d checks in 20 intervals", len(at))
		}
		if d := at[0].Sub(begun); d > minSpread {
			t.Errorf("the first check after %s", d)
		}
		for i := 1; i < len(at); i++ {
			if d := at[i].Sub(at[i-1]); d < 950*time.Millisecond || d > 1050*time.Millisecond {
				t.Errorf("%s between checks", d)
			}
		}
	})
}

// An unhealthy endpoint is looked at more often, or less.
func TestUnhealthyInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{}
		c := NewChecker(slog.New(slog.DiscardHandler), s.probe)
		defer c.Close()
		one := target(&balance.State{})
		one.Check.Interval, one.Check.UnhealthyInterval, one.Check.JitterPercent = 10*time.Second, 2*time.Second, 0
		c.Set([]Target{one})
		count := func(within time.Duration) int64 {
			before := s.probes.Load()
			time.Sleep(within)
			return s.probes.Load() - before
		}
		time.Sleep(time.Second)
		if n := count(100 * time.Second); n != 10 {
			t.Errorf("%d checks in 10 intervals while it is healthy", n)
		}
		s.broken.Store(true)
		time.Sleep(40 * time.Second)
		if n := count(100 * time.Second); n != 50 {
			t.Errorf("%d checks in 50 intervals while it is unhealthy", n)
		}
		s.broken.Store(false)
		time.Sleep(40 * time.Second)
		if n := count(100 * time.Second); n != 10 {
			t.Errorf("%d checks in 10 intervals after it is healthy again", n)
		}
	})
}

// Checks of endpoints that begin together don't stay together, within what the jitter allows.
func TestJitter(t *testing.T) {
	for _, percent := range []int{0, 5, 50} {
		synctest.Test(t, func(t *testing.T) {
			w := &watch{target: target(&balance.State{})}
			w.target.Check.JitterPercent = percent
			vary := time.Second * time.Duration(percent) / 100
			least, most := time.Hour, time.Duration(0)
			for range 1000 {
				d := w.interval(0)
				least, most = min(least, d), max(most, d)
			}
			if least < time.Second-vary || most > time.Second+vary || most-least < vary {
				t.Errorf("%d %%: from %s to %s", percent, least, most)
			}
		})
	}
}

// What starts unhealthy gets requests by its first check if that passes, and else by as many as any other.
func TestInitialStateUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{}
		s.broken.Store(true)
		c := NewChecker(slog.New(slog.DiscardHandler), s.probe)
		defer c.Close()
		late := target(&balance.State{})
		late.Check.UnhealthyAtFirst = true
		late.State.SetHealthy(false)
		c.Set([]Target{late})
		s.checks(t, 1)
		if late.State.Healthy() {
			t.Fatal("healthy though its first check failed")
		}
		s.broken.Store(false)
		s.checks(t, 1)
		if late.State.Healthy() {
			t.Error("healthy after one of two checks")
		}
		s.checks(t, 1)
		if !late.State.Healthy() {
			t.Error("unhealthy after two checks that passed")
		}
		once := target(&balance.State{})
		once.Check.UnhealthyAtFirst = true
		once.State.SetHealthy(false)
		c.Set([]Target{once})
		s.checks(t, 1)
		if !once.State.Healthy() {
			t.Error("unhealthy after its first check has passed")
		}
	})
}

func TestChangedTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{}
		s.broken.Store(true)
		c := NewChecker(slog.New(slog.DiscardHandler), s.probe)
		defer c.Close()
		state := &balance.State{}
		c.Set([]Target{target(state)})
		s.checks(t, 2)
		changed := target(state)
		changed.Check.Timeout /= 2
		c.Set([]Target{changed}) // another check: the history starts anew
		s.checks(t, 2)
		if !state.Healthy() {
			t.Error("failures of two different checks were added up")
		}
		s.checks(t, 1)
		if state.Healthy() {
			t.Error("healthy after three failures")
		}
		c.Set(nil)
		if !state.Healthy() {
			t.Error("an endpoint that is no longer checked stays unhealthy")
		}
		if r := verdicts(c, true); len(r) != 0 {
			t.Errorf("report %v", r)
		}
		n := s.probes.Load()
		time.Sleep(10 * time.Second)
		if s.probes.Load() != n {
			t.Error("checks go on")
		}
	})
}

// TestRemovedDuringACheck takes the target away while its check waits: the check is cancelled and its outcome counts
// for nothing.
func TestRemovedDuringACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewChecker(slog.New(slog.DiscardHandler), func(ctx context.Context, _ Target) error {
			<-ctx.Done()
			return ctx.Err()
		})
		defer c.Close()
		state := &balance.State{}
		once := target(state)
		once.Check.Unhealthy, once.Check.Timeout = 1, time.Hour
		c.Set([]Target{once})
		time.Sleep(time.Second)
		begun := time.Now()
		c.Set(nil)
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.running != 0 || time.Since(begun) > 0 || !state.Healthy() || len(c.changed) != 0 {
			t.Errorf("%d checks run, healthy %v, reported %v", c.running, state.Healthy(), c.changed)
		}
	})
}

// TestManyEndpoints checks 10,000 endpoints, a fifth of which never answers: every one is checked at its interval, all
// verdicts are right, and goroutines are few.
func TestManyEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10_000
		var counts [n]atomic.Int32
		var most atomic.Int64
		c := NewChecker(slog.New(slog.DiscardHandler), func(ctx context.Context, target Target) error {
			counts[target.Port].Add(1)
			if target.Port%100 == 0 {
				most.Store(max(most.Load(), int64(runtime.NumGoroutine())))
			}
			if target.Port%5 == 0 {
				<-ctx.Done()
				return ctx.Err()
			}
			time.Sleep(time.Millisecond) // virtual
			return nil
		})
		targets := make([]Target, n)
		for i := range targets {
			targets[i] = Target{ServiceID: fmt.Sprint(i / 10), Host: "h", Port: uint32(i), State: &balance.State{},
				Check: config.HealthCheck{
					Interval: 10 * time.Second, UnhealthyInterval: 10 * time.Second, Timeout: 2 * time.Second, Unhealthy: 3,
					Healthy: 2}}
		}
		c.Set(targets)
		time.Sleep(40 * time.Second)
		c.Close()
		for i := range counts {
			if k := counts[i].Load(); k < 3 || k > 5 {
				t.Fatalf("endpoint %d was checked %d times in 4 intervals", i, k)
			}
			if targets[i].State.Healthy() == (i%5 == 0) {
				t.Fatalf("endpoint %d is healthy: %v", i, targets[i].State.Healthy())
			}
		}
		if most.Load() > maxConcurrent+50 {
			t.Errorf("%d goroutines", most.Load())
		}
	})
}
