package pipeline

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type step struct {
	name   string
	log    *[]string
	mu     *sync.Mutex
	refuse bool
	panics bool
	waits  time.Duration
}

func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	s.note("+" + s.name)
	if s.panics {
		panic("broken")
	}
	if s.waits > 0 {
		wait := s.waits
		if !x.Deadline.IsZero() {
			wait = min(wait, time.Until(x.Deadline)+1)
		}
		time.Sleep(wait)
	}
	if s.refuse {
		x.Fail(fault.Forbidden, s.name)
		return exchange.Stop
	}
	x.Request.Header.Add("X-Step", s.name)
	return exchange.Continue
}

func (s *step) Response(*exchange.Exchange) { s.note("-" + s.name) }

func (s *step) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*s.log = append(*s.log, what)
}

type made struct {
	log   []string
	mu    sync.Mutex
	steps map[string]*step
}

func (m *made) pipeline(names string) *Pipeline {
	p := &Pipeline{Name: "p-" + names}
	for _, n := range names {
		s := &step{name: string(n), log: &m.log, mu: &m.mu}
		if m.steps == nil {
			m.steps = map[string]*step{}
		}
		m.steps[string(n)] = s
		p.Steps = append(p.Steps, NamedStep{Name: string(n), Step: s})
	}
	return p
}

func chain(ps ...*Pipeline) *Chain {
	return NewChain(telemetry.New(1).Panics(slog.New(slog.DiscardHandler)), ps...)
}

func stepsOf(x *exchange.Exchange) string {
	var all []string
	for v := range x.Request.Header.Values("x-step") {
		all = append(all, v)
	}
	return strings.Join(all, "")
}

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		refuse, want string
		verdict      exchange.Verdict
	}{
		{"", "+a +b +c +d -d -c -b -a", exchange.Continue},
		{"b", "+a +b -b -a", exchange.Stop},
		{"c", "+a +b +c -c -b -a", exchange.Stop},
	} {
		var m made
		ch := chain(m.pipeline("ab"), nil, &Pipeline{}, m.pipeline("cd"))
		if c.refuse != "" {
			m.steps[c.refuse].refuse = true
		}
		var x exchange.Exchange
		var at Progress
		v := ch.Request(&x, &at)
		ch.Response(&x, &at)
		if got := strings.Join(m.log, " "); got != c.want || v != c.verdict {
			t.Errorf("refusing %q: got %s, %v", c.refuse, got, v)
		}
	}
}

func TestParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m made
		p := m.pipeline("abc")
		p.Parallel = true
		for _, s := range m.steps {
			s.waits = time.Second
		}
		m.steps["a"].waits = 3 * time.Second
		var x exchange.Exchange
		start := time.Now()
		var at Progress
		v := chain(p).Request(&x, &at)
		if v != exchange.Continue || stepsOf(&x) != "abc" || time.Since(start) != 3*time.Second {
			t.Errorf("got %v, %s after %s", v, stepsOf(&x), time.Since(start))
		}
		m.log = nil
		chain(p).Response(&x, &at)
		if got := strings.Join(m.log, " "); got != "-c -b -a" {
			t.Errorf("response phases: %s", got)
		}
		m.steps["b"].refuse, m.steps["c"].refuse = true, true
		x.Reset()
		if v := chain(p).Request(&x, new(Progress)); v != exchange.Stop || x.Response.Status != 403 || !strings.Contains(string(x.Response.Body), `"message":"b"`) {
			t.Errorf("got %v, %d %s", v, x.Response.Status, x.Response.Body)
		}
	})
}

func TestTimeout(t *testing.T) {
	for _, parallel := range []bool{false, true} {
		t.Run(fmt.Sprint(parallel), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var m made
				p := m.pipeline("ab")
				p.Parallel, p.Timeout = parallel, time.Second
				m.steps["a"].waits = time.Hour
				var x exchange.Exchange
				start := time.Now()
				v := chain(p).Request(&x, new(Progress))
				if v != exchange.Stop || x.Response.Status != 504 || x.Response.Code != fault.PipelineTimeout || time.Since(start) > 2*time.Second {
					t.Errorf("got %v, %d %s after %s", v, x.Response.Status, x.Response.Code, time.Since(start))
				}
				if !x.Deadline.IsZero() {
					t.Error("the pipeline's deadline stays")
				}
			})
		})
	}
}

func TestPanicIsOneExchangesError(t *testing.T) {
	for _, parallel := range []bool{false, true} {
		var m made
		p := m.pipeline("ab")
		p.Parallel = parallel
		m.steps["a"].panics = true
		var x exchange.Exchange
		if v := chain(p).Request(&x, new(Progress)); v != exchange.Stop || x.Response.Status != 500 || x.Response.Code != fault.Internal {
			t.Errorf("parallel %v: got %v, %d", parallel, v, x.Response.Status)
		}
	}
}

type quiet struct{}

func (quiet) Request(*exchange.Exchange) exchange.Verdict { return exchange.Continue }
func (quiet) Response(*exchange.Exchange)                 {}

func TestChainsDoNotAllocate(t *testing.T) {
	p := &Pipeline{Steps: []NamedStep{{Name: "a", Step: quiet{}}, {Name: "b", Step: quiet{}}}}
	ch := chain(p, p)
	var x exchange.Exchange
	if n := testing.AllocsPerRun(100, func() {
		var at Progress
		ch.Request(&x, &at)
		ch.Response(&x, &at)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	var none *Chain
	var at Progress
	if v := none.Request(&x, &at); v != exchange.Continue || at != (Progress{}) {
		t.Error("the nil chain does something")
	}
}
