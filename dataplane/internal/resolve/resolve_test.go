package resolve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// script answers lookups of one name by what it says at the time.
type script struct {
	mu        sync.Mutex
	addresses string // in order, separated by blanks
	ttl       time.Duration
	err       error
	missing   func(netip.Addr) bool
	asked     int
}

func (s *script) lookup(context.Context, string) (answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	a := answer{ttl: s.ttl, missing: s.missing}
	for text := range strings.FieldsSeq(s.addresses) {
		a.addresses = append(a.addresses, netip.MustParseAddr(text))
	}
	return a, s.err
}

// TestNameInTheCourseOfTime goes through what servers say of a name, each for some time.
func TestNameInTheCourseOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{addresses: "10.0.0.2 10.0.0.1", ttl: 30 * time.Second}
		var said strings.Builder
		r := newResolver(Settings{}, slog.New(slog.NewTextHandler(&said, nil)), s.lookup)
		defer r.Close()
		r.Set([]string{"a.test"})
		r.Wait(t.Context())
		notFound := fmt.Errorf("server: %w", ErrNotFound)
		for _, step := range []struct {
			what    string
			say     func()
			after   time.Duration
			want    string
			changed bool
			asked   int // at least, and not many more
		}{
			{"the first answer", func() {}, 0, "10.0.0.1 10.0.0.2", true, 1},
			{"it holds for its time to live", func() { s.addresses = "10.0.0.3" }, 29 * time.Second, "10.0.0.1 10.0.0.2", false, 0},
			{"and not much longer", func() {}, 3 * time.Second, "10.0.0.3", true, 1},
			{"the order means nothing", func() { s.addresses = "10.0.0.3 10.0.0.3" }, time.Minute, "10.0.0.3", false, 1},
			{"failures keep the last", func() { s.err = errors.New("timeout") }, time.Hour, "10.0.0.3", false, 100},
			{"so does a name that does not exist, for a while", func() { s.err = notFound }, 9 * time.Minute, "10.0.0.3", false, 10},
			{"not for good", func() {}, 2 * time.Minute, "", true, 1},
			{"it is back soon", func() { s.err, s.addresses, s.ttl = nil, "10.0.0.4", 0 }, 32 * time.Second, "10.0.0.4", true, 1},
			{"a time to live of nothing is a second", func() {}, 100 * time.Second, "10.0.0.4", false, 90},
			{"a long one is five minutes", func() { s.ttl = time.Hour }, 21 * time.Minute, "10.0.0.4", false, 4},
			{"one family can't be asked for", func() { s.addresses, s.ttl = "10.0.0.4 2001:db8::1", time.Second }, 7 * time.Minute, "10.0.0.4 2001:db8::1", true, 90},
			{"so that it keeps what it has", func() { s.addresses, s.missing = "10.0.0.5", netip.Addr.Is6 }, 10 * time.Second, "10.0.0.5 2001:db8::1", true, 5},
		} {
			s.mu.Lock()
			step.say()
			before := s.asked
			s.mu.Unlock()
			if step.what == "the first answer" {
				before = 0
			}
			time.Sleep(step.after)
			synctest.Wait()
			var got []string
			for _, a := range r.Addresses("a.test") {
				got = append(got, a.String())
			}
			if strings.Join(got, " ") != step.want {
				t.Errorf("%s: %v, want %s", step.what, got, step.want)
			}
			changed := false
			select {
			case <-r.Changed():
				changed = true
			default:
			}
			if changed != step.changed {
				t.Errorf("%s: said to have changed: %v", step.what, changed)
			}
			s.mu.Lock()
			n := s.asked - before
			s.mu.Unlock()
			if n < step.asked || n > 2*step.asked+30 {
				t.Errorf("%s: asked %d times, want about %d", step.what, n, step.asked)
			}
		}
		if n := strings.Count(said.String(), "can't be resolved"); n != 1 {
			t.Errorf("said %d times that it can't be resolved:\n%s", n, said.String())
		}
	})
}

// TestNamesComeAndGo ends lookups of names that nobody wants any more, and counts those that are left.
func TestNamesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context, name string) (answer, error) {
			if strings.HasPrefix(name, "slow") {
				<-ctx.Done()
				return answer{}, ctx.Err()
			}
			return answer{addresses: []netip.Addr{netip.IPv6Loopback()}, ttl: time.Minute}, nil
		}
		r := newResolver(Settings{}, slog.New(slog.DiscardHandler), hang)
		var names []string
		for i := range 3 * maxConcurrent {
			names = append(names, fmt.Sprintf("slow%d.test", i))
		}
		r.Set(names)
		synctest.Wait()
		r.Set([]string{"a.test", "b.test"})
		synctest.Wait()
		if len(r.Addresses("a.test")) != 1 || len(r.Addresses("b.test")) != 1 || r.Addresses(names[0]) != nil {
			t.Error("names that are wanted wait for those that are not")
		}
		registry := prometheus.NewRegistry()
		registry.MustRegister(r)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		series := 0
		for _, f := range families {
			series += len(f.GetMetric())
		}
		if series != 3+2+2 {
			t.Errorf("%d series, want three of lookups and two of each name", series)
		}
		r.Close()
		r.Close()
		r.Set(names)
		synctest.Wait()
	})
}

// TestNameThatIsWantedAgain has name servers fail while a name is not wanted for a moment, as when a change is refused
// or taken back.
func TestNameThatIsWantedAgain(t *testing.T) {
	for name, test := range map[string]struct {
		away time.Duration
		want int
	}{
		"at once":    {0, 1},
		"soon":       {9 * time.Minute, 1},
		"after long": {11 * time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{addresses: "10.0.0.1", ttl: time.Minute}
				r := newResolver(Settings{}, slog.New(slog.DiscardHandler), s.lookup)
				defer r.Close()
				r.Set([]string{"a.test"})
				r.Wait(t.Context())
				s.mu.Lock()
				s.err = errors.New("timeout")
				s.mu.Unlock()
				r.Set([]string{"b.test"})
				time.Sleep(test.away)
				r.Set([]string{"a.test", "b.test"})
				r.Wait(t.Context())
				if got := r.Addresses("a.test"); len(got) != test.want {
					t.Errorf("%v, want %d addresses", got, test.want)
				}
				s.mu.Lock()
				s.err, s.addresses = nil, "10.0.0.2"
				s.mu.Unlock()
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := r.Addresses("a.test"); len(got) != 1 || got[0].String() != "10.0.0.2" {
					t.Errorf("%v once servers answer again", got)
				}
			})
		})
	}
}

// TestNamesThatFailHoldUpNoOthers has names whose servers are silent, three times as many as are asked for at once,
// beside one that changes. They are fewer than the race detector has slots for goroutines (256): with more that end at
// the process's end it can stop with status 66, or not at all.
func TestNamesThatFailHoldUpNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{addresses: "10.0.0.1"}
		r := newResolver(Settings{}, slog.New(slog.DiscardHandler), func(ctx context.Context, name string) (answer, error) {
			if name == "a.test" {
				return s.lookup(ctx, name)
			}
			select {
			case <-time.After(12 * time.Second):
				return answer{}, errors.New("timeout")
			case <-ctx.Done():
				return answer{}, ctx.Err()
			}
		})
		defer r.Close()
		names := []string{"a.test"}
		for i := range 3 * maxConcurrent {
			names = append(names, fmt.Sprintf("silent%d.test", i))
		}
		r.Set(names)
		time.Sleep(10 * time.Minute) // each was asked for once
		s.mu.Lock()
		before := s.asked
		s.mu.Unlock()
		time.Sleep(time.Minute)
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := s.asked - before; n < 50 {
			t.Errorf("asked %d times in a minute for a name with a time to live of a second", n)
		}
	})
}
