package circuit

import (
	"testing"
	"time"

	"gateway.internal/shared/config"
)

// TestIntervalChanges has results be counted by the settings of before while others hold already: slots of a short
// interval have greater numbers, and would keep later results out.
func TestIntervalChanges(t *testing.T) {
	set := settings(config.WindowCircuit)
	set.Interval = time.Second
	c := New(set, nil, start).(*window)
	before := c.set.Load()
	set = settings(config.WindowCircuit)
	set.Interval = time.Hour
	c.Set(set)
	for i := range time.Duration(20) {
		before.results.add(c.slotOf(c.at(start.Add(i*before.Interval/slots)), before), 0, true, false)
	}
	if s := c.Status(start); s.Requests != 0 {
		t.Errorf("the results of before count: %+v", s)
	}
	for range 3 {
		ask(c, start, bad)
	}
	if s := c.Status(start); s.Requests != 3 || s.Failed != 3 {
		t.Errorf("of 3 failures it knows %d of %d", s.Failed, s.Requests)
	}
}

// TestPassedPlace has one attempt after another one take its place over: there is one place at all times, each is told,
// and it is given back once.
func TestPassedPlace(t *testing.T) {
	for _, kind := range []string{config.WindowCircuit, config.HystrixCircuit} {
		set := settings(kind)
		if kind == config.HystrixCircuit {
			set.Concurrent = 1
		}
		c := New(set, nil, start)
		var p Permit
		if v := c.Admit(start, 0, &p); v != Admitted {
			t.Fatalf("%s: the first: %d", kind, v)
		}
		for i := range 3 {
			var next, other Permit
			if v, same := p.Pass(c, start, &next); v != Admitted || !same || p.Passes() || !next.Passes() {
				t.Fatalf("%s: attempt %d: %d, %t", kind, i+2, v, same)
			}
			if v, same := next.Pass(New(set, nil, start), start, &other); same || other.Held() {
				t.Errorf("%s: another circuit has taken it: %d", kind, v)
			}
			r := bad
			r.Ended = start
			p.Ended(&r)
			p.Leave()
			p = next
			if n := c.Status(start).Concurrent; kind == config.HystrixCircuit && n != 1 {
				t.Errorf("%d places are taken", n)
			}
		}
		r := bad
		r.Ended = start
		p.Ended(&r)
		if v, _ := p.Pass(c, start, new(Permit)); v != Open {
			t.Errorf("%s: four failures have not opened it", kind)
		}
		p.Leave()
		p.Leave()
		if n := c.Status(start).Concurrent; n != 0 {
			t.Errorf("%s: %d places are taken at the end", kind, n)
		}
	}
}
