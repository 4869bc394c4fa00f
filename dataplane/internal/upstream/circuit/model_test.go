package circuit

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/shared/config"
)

// model is what a circuit has to do, said simply: it keeps all results, and counts them anew each time.
type model struct {
	set        config.Circuit
	born       time.Time
	state      State
	generation int
	results    []modelResult // of the closed state
	inARow     int
	opened     time.Time
	opens      int
	until      time.Time // of what is forced; zero: for ever
	rested     time.Time
	begun      time.Time
	probes     []*modelPermit
	good, bad  int
	sluggish   int
}

type modelResult struct {
	slot         int64
	failed, slow bool
}

type modelPermit struct {
	generation int
	permit     Permit
	begun      time.Time
}

func (m *model) slot(at time.Time) int64 { return int64(at.Sub(m.born) / (m.set.Interval / slots)) }

func (m *model) enter(s State, now time.Time) {
	m.state, m.begun = s, now
	m.generation++
	m.results, m.inARow, m.probes, m.good, m.bad, m.sluggish = nil, 0, nil, 0, 0, 0
	if s == Closed {
		m.rested = now
	}
}

func (m *model) open(now time.Time) {
	if m.state == Closed && now.Sub(m.rested) >= m.set.Interval {
		m.opens = 0
	}
	m.opens++
	m.opened = now
	m.enter(Opened, now)
}

func (m *model) openTime() time.Duration {
	d := m.set.Timeout
	for range m.opens - 1 {
		d = min(2*d, m.set.MaxTimeout)
	}
	return d
}

// stateAt returns the state, and since when it is that: who is admitted next, when the time is over, tries the service.
func (m *model) stateAt(now time.Time) (State, time.Time) {
	end := m.until
	switch m.state {
	case Opened:
		end = m.opened.Add(m.openTime())
	case Forced:
	default:
		return m.state, m.begun
	}
	if end.IsZero() || now.Before(end) {
		return m.state, m.begun
	}
	return HalfOpen, end
}

func (m *model) admit(now time.Time) *modelPermit {
	switch m.state {
	case Opened:
		if now.Sub(m.opened) < m.openTime() {
			return nil
		}
		m.enter(HalfOpen, now)
	case Forced:
		if m.until.IsZero() || now.Before(m.until) {
			return nil
		}
		m.enter(HalfOpen, now)
	}
	p := &modelPermit{generation: m.generation, begun: now}
	if m.state == HalfOpen {
		if len(m.probes) >= m.set.Probes && now.Sub(m.begun) >= max(longestProbe, m.set.Timeout) {
			m.enter(HalfOpen, now)
			p.generation = m.generation
		}
		if len(m.probes) >= m.set.Probes {
			return nil
		}
		m.probes = append(m.probes, p)
	}
	return p
}

func (m *model) end(p *modelPermit, r *outcome.Result, now time.Time) {
	if p.generation != m.generation {
		return
	}
	slow := m.set.Slow > 0 && r.Took >= m.set.Slow
	switch {
	case m.state == HalfOpen && !r.Telling():
		for i, one := range m.probes {
			if one == p {
				m.probes = append(m.probes[:i:i], m.probes[i+1:]...)
				break
			}
		}
	case m.state == HalfOpen:
		if r.Failed() {
			m.bad++
		} else {
			m.good++
		}
		if slow {
			m.sluggish++
		}
		total := float64(m.good + m.bad)
		switch {
		case m.bad > 0 && float64(m.bad)/total >= m.set.Threshold,
			m.sluggish > 0 && float64(m.sluggish)/total >= m.set.SlowThreshold:
			m.open(now)
		case m.good+m.bad >= m.set.Probes:
			m.enter(Closed, now)
		}
	case r.Telling():
		m.results = append(m.results, modelResult{m.slot(now), r.Failed(), slow})
		if m.inARow++; !r.Failed() {
			m.inARow = 0
		}
		total, failed, slowly := 0.0, 0.0, 0.0
		for _, one := range m.results {
			if one.slot <= m.slot(now)-slots {
				continue
			}
			total++
			if one.failed {
				failed++
			}
			if one.slow {
				slowly++
			}
		}
		enough := total >= float64(m.set.Minimum)
		if m.set.Consecutive > 0 && m.inARow >= m.set.Consecutive ||
			enough && failed > 0 && failed/total >= m.set.Threshold && (r.Failed() || slow) ||
			enough && m.set.Slow > 0 && slowly > 0 && slowly/total >= m.set.SlowThreshold && (r.Failed() || slow) {
			m.open(now)
		}
	}
}

// TestCircuitsDoWhatTheModelDoes goes through random results at random times, in virtual time: every moment is given.
func TestCircuitsDoWhatTheModelDoes(t *testing.T) {
	for _, kind := range []string{config.WindowCircuit, config.HystrixCircuit} {
		t.Run(kind, func(t *testing.T) { rapid.Check(t, func(t *rapid.T) { walk(t, kind) }) })
	}
}

func walk(t *rapid.T, kind string) {
	set := config.Circuit{
		Type: kind, Interval: 10 * time.Second, Timeout: 5 * time.Second, MaxTimeout: 15 * time.Second,
		Probes:      rapid.IntRange(1, 4).Draw(t, "probes"),
		Threshold:   rapid.SampledFrom([]float64{0.25, 0.5, 1}).Draw(t, "threshold"),
		Minimum:     rapid.IntRange(1, 6).Draw(t, "minimum"),
		Consecutive: rapid.SampledFrom([]int{0, 3}).Draw(t, "in a row"),
	}
	if rapid.Bool().Draw(t, "slow calls count") {
		set.Slow, set.SlowThreshold = time.Second, 0.5
	}
	now := time.Unix(1e9, 0)
	c := New(&set, nil, now)
	m := &model{set: set, born: c.core().born, begun: now}
	m.rested = m.born
	var held []*modelPermit
	kinds := []outcome.Kind{outcome.Answered, outcome.Answered, outcome.Reset, outcome.Canceled, outcome.TimedOut}
	t.Repeat(map[string]func(*rapid.T){
		"time passes": func(t *rapid.T) {
			now = now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "ms")) * time.Millisecond)
		},
		"long time passes": func(t *rapid.T) {
			now = now.Add(time.Duration(rapid.IntRange(4, 70).Draw(t, "s")) * time.Second)
		},
		"a request comes": func(t *rapid.T) {
			want := m.admit(now)
			var p Permit
			if got := c.Admit(now, rapid.Uint32().Draw(t, "shard"), &p); (got == Admitted) != (want != nil) {
				t.Fatalf("%s, want %t: the model is %s since %s", got.text(), want != nil, m.state, now.Sub(m.begun))
			}
			if want != nil {
				want.permit = p
				held = append(held, want)
			}
		},
		"a request ends": func(t *rapid.T) {
			if len(held) == 0 {
				t.Skip("there is none")
			}
			i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
			p := held[i]
			held = append(held[:i:i], held[i+1:]...)
			r := &outcome.Result{Begun: p.begun, Took: now.Sub(p.begun), Ended: now}
			r.Kind = rapid.SampledFrom(kinds).Draw(t, "kind")
			if r.Status = 200; rapid.Bool().Draw(t, "error") {
				r.Status = 500
			}
			m.end(p, r, now)
			p.permit.Ended(r)
			p.permit.Leave()
		},
		"somebody resets": func(t *rapid.T) {
			if rapid.IntRange(0, 9).Draw(t, "rarely") == 0 {
				c.Reset(now)
				m.opens = 0
				m.enter(Closed, now)
			}
		},
		"somebody forces it open": func(t *rapid.T) {
			if rapid.IntRange(0, 9).Draw(t, "rarely") == 0 {
				m.until = time.Time{}
				if rapid.Bool().Draw(t, "for a time") {
					m.until = now.Add(20 * time.Second)
				}
				c.ForceOpen(now, m.until)
				m.opens = 0
				m.enter(Forced, now)
			}
		},
		"": func(t *rapid.T) {
			s := c.Status(now)
			state, since := m.stateAt(now)
			if s.State != state || !s.Since.Equal(since) || !s.Until.IsZero() && !now.Before(s.Until) {
				t.Fatalf("it is %s since %s until %s, want %s since %s", s.State, s.Since, s.Until, state, since)
			}
			if kind == config.HystrixCircuit && s.Concurrent != len(held) {
				t.Fatalf("%d are under way, want %d", s.Concurrent, len(held))
			}
			if m.state == HalfOpen && len(m.probes) > set.Probes {
				t.Fatalf("%d probes", len(m.probes))
			}
		},
	})
}

func (v Verdict) text() string { return [...]string{"admitted", "open", "busy", "full"}[v] }
