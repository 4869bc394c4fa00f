package outlier

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"gateway.internal/dataplane/internal/upstream/balance"
	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/shared/config"
)

// model is the ejection state machine as plain code, second by second.
type model struct {
	set     config.Outlier
	now     int // seconds
	begun   int // of sweeps
	present []int
	of      []modelHost
}

type modelHost struct {
	until, times, returned int // until 0: not ejected
	in5xx, inGateway       int
}

func (m *model) ejected() (n int) {
	for _, i := range m.present {
		if m.of[i].until > 0 {
			n++
		}
	}
	return n
}

// most is how many may be ejected.
func (m *model) most() int {
	return max(0, min(len(m.present)-1, max(1, len(m.present)*m.set.MaxEjectionPercent/100)))
}

func (m *model) end(i int, r outcome.Result) {
	h := &m.of[i]
	if r.Kind == outcome.Answered && r.Status < 500 {
		h.in5xx, h.inGateway = 0, 0
		return
	}
	h.in5xx++
	h.inGateway++
	if r.Kind == outcome.Answered && r.Status == 500 {
		h.inGateway = 0
	}
	if h.in5xx < m.set.Consecutive5xx && h.inGateway < m.set.ConsecutiveGateway {
		return
	}
	h.in5xx, h.inGateway = 0, 0
	if h.until > 0 || m.ejected() >= m.most() {
		return
	}
	base, longest := int(m.set.BaseEjectionTime/time.Second), int(m.set.MaxEjectionTime/time.Second)
	length := min(base*(h.times+1), longest)
	if base*(h.times+1) <= longest {
		h.times++
	}
	h.until = m.now + length
}

func (m *model) giveBack(i int) {
	m.of[i] = modelHost{times: m.of[i].times, returned: m.now}
}

func (m *model) second() {
	m.now++
	for _, i := range m.present {
		if h := &m.of[i]; h.until == m.now {
			m.giveBack(i)
		}
	}
	if interval := int(m.set.Interval / time.Second); (m.now-m.begun)%interval == 0 {
		for _, i := range m.present {
			if h := &m.of[i]; h.until == 0 && h.times > 0 && m.now-h.returned >= interval {
				h.times--
				h.returned = m.now
			}
		}
	}
}

// keep makes these the endpoints that are there.
func (m *model) keep(present []int) {
	for i := range m.of {
		if !slices.Contains(present, i) {
			m.of[i] = modelHost{}
		}
	}
	m.present = present
	for m.ejected() > m.most() {
		first := -1
		for _, i := range present {
			if m.of[i].until > 0 && (first < 0 || m.of[i].until < m.of[first].until) {
				first = i
			}
		}
		m.giveBack(first)
	}
}

// step is one thing that happens: of failures, results, seconds or other endpoints, those that are set.
type step struct {
	endpoint, failures int
	results            []outcome.Result
	seconds            int
	members            []int
}

// TestEjectionIsWhatTheModelSays: whatever happens in whatever order, the same endpoints are ejected as by the model,
// never more than may be, and each for the time that is its turn.
func TestEjectionIsWhatTheModelSays(t *testing.T) {
	const most = 4
	subset := rapid.SliceOfNDistinct(rapid.IntRange(0, most-1), 1, most, rapid.ID[int])
	one := rapid.Custom(func(t *rapid.T) step {
		s := step{endpoint: rapid.IntRange(0, most-1).Draw(t, "endpoint")}
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0:
			s.members = subset.Draw(t, "members")
		case 1, 2, 3:
			s.seconds = rapid.IntRange(1, 12).Draw(t, "seconds")
		case 4, 5:
			s.results = rapid.SliceOfN(rapid.SampledFrom([]outcome.Result{good, broken, broken, gateway, reset}), 1, 5).Draw(t,
				"results")
		default:
			s.failures = rapid.IntRange(1, 8).Draw(t, "failures")
		}
		return s
	})
	ejections := 0
	rapid.Check(t, func(rt *rapid.T) {
		seconds := func(name string, from, to int) time.Duration {
			return time.Duration(rapid.IntRange(from, to).Draw(rt, name)) * time.Second
		}
		set := config.Outlier{
			Consecutive5xx:     rapid.IntRange(1, 4).Draw(rt, "consecutive_5xx"),
			ConsecutiveGateway: rapid.IntRange(1, 4).Draw(rt, "gateway failures"),
			Interval:           seconds("interval", 1, 5), BaseEjectionTime: seconds("base", 1, 5),
			MaxEjectionTime:    seconds("max", 5, 20),
			MaxEjectionPercent: rapid.IntRange(1, 100).Draw(rt, "percent"),
		}
		first, steps := subset.Draw(rt, "members"), rapid.SliceOfN(one, 40, 100).Draw(rt, "steps")
		var wrong string
		synctest.Test(t, func(*testing.T) {
			r := newRun(set, most)
			defer r.detector.Close()
			r.keep(first)
			for n, s := range steps {
				r.do(s)
				if wrong = r.differs(); wrong != "" {
					wrong = fmt.Sprintf("after step %d, %+v: %s", n, s, wrong)
					return
				}
			}
			for _, e := range r.all {
				ejections += int(e.Host.count)
			}
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
	if ejections == 0 {
		t.Error("nothing was ejected")
	}
}

// run is a detector beside its model.
type run struct {
	detector *Detector
	model    *model
	all      []Endpoint
}

func newRun(set config.Outlier, endpoints int) *run {
	return &run{detector: newDetector(), model: &model{set: set, of: make([]modelHost, endpoints)},
		all: serviceOf(endpoints, set).Endpoints}
}

func (r *run) keep(members []int) {
	r.model.keep(members)
	s := Service{ID: "1", Settings: r.model.set}
	for _, i := range members {
		s.Endpoints = append(s.Endpoints, r.all[i])
	}
	r.detector.Set([]Service{s})
}

func (r *run) do(s step) {
	if s.members != nil {
		r.keep(s.members)
	}
	for range s.seconds {
		time.Sleep(time.Second)
		r.model.second()
	}
	if !slices.Contains(r.model.present, s.endpoint) {
		return
	}
	for range s.failures {
		s.results = append(s.results, broken)
	}
	for _, result := range s.results {
		r.all[s.endpoint].end(result, 1)
		synctest.Wait()
		r.model.end(s.endpoint, result)
	}
}

// differs says what is otherwise than the model says.
func (r *run) differs() string {
	synctest.Wait()
	n := 0
	for i, e := range r.all {
		is, h := e.State.Reasons().Has(balance.Ejected), r.model.of[i]
		if is {
			n++
		}
		if is != (h.until > 0) {
			return fmt.Sprintf("at second %d endpoint %d is ejected: %v; by the model %+v", r.model.now, i, is, h)
		}
	}
	if n > r.model.most() {
		return fmt.Sprintf("%d of %d are ejected, more than %d", n, len(r.model.present), r.model.most())
	}
	return ""
}
