package circuit

import (
	"testing"
	"time"

	"gateway.internal/shared/config"
)

// TestOpeningsOfOthers takes openings of other nodes, in each state.
func TestOpeningsOfOthers(t *testing.T) {
	one, two := Opening{Node: 1, Generation: 1}, Opening{Node: 2, Generation: 1}
	fail := func(c Circuit) {
		for range 4 {
			ask(c, start, bad)
		}
	}
	for _, c := range []struct {
		name  string
		do    func(c Circuit) (changed bool)
		took  bool // what the last Take said
		state State
		until time.Duration // from the start; 0: it is not open
		own   bool
	}{
		{"a closed one opens", func(c Circuit) bool {
			return c.Take(start, start.Add(7*time.Second), one)
		}, true, Opened, 7 * time.Second, false},
		{"for its max_timeout at most", func(c Circuit) bool {
			return c.Take(start, start.Add(time.Hour), one)
		}, true, Opened, 20 * time.Second, false},
		{"one that is over opens nothing", func(c Circuit) bool {
			return c.Take(start, start, one)
		}, false, Closed, 0, false},
		{"each is taken once", func(c Circuit) bool {
			c.Take(start, start.Add(7*time.Second), one)
			c.Reset(start)
			return c.Take(start, start.Add(7*time.Second), one)
		}, false, Closed, 0, false},
		{"one that ends before its own changes nothing", func(c Circuit) bool {
			fail(c)
			return c.Take(start, start.Add(3*time.Second), one)
		}, false, Opened, 5 * time.Second, true},
		{"one that lasts longer does", func(c Circuit) bool {
			fail(c)
			return c.Take(start, start.Add(7*time.Second), one)
		}, true, Opened, 7 * time.Second, false},
		{"what is forced open stays so", func(c Circuit) bool {
			c.ForceOpen(start, start.Add(time.Second))
			return c.Take(start, start.Add(7*time.Second), one)
		}, false, Forced, time.Second, false},
		{"it closes with the node that has opened it", func(c Circuit) bool {
			took := c.Take(start, start.Add(7*time.Second), one)
			c.Drop(start, one)
			return took
		}, true, Closed, 0, false},
		{"and not with another one", func(c Circuit) bool {
			took := c.Take(start, start.Add(7*time.Second), one)
			c.Drop(start, two)
			return took
		}, true, Opened, 7 * time.Second, false},
		{"nor when it is open by itself", func(c Circuit) bool {
			took := c.Take(start, start.Add(7*time.Second), one)
			c.Reset(start)
			fail(c)
			c.Drop(start, one)
			return took
		}, true, Opened, 5 * time.Second, true},
	} {
		for _, kind := range []string{config.WindowCircuit, config.HystrixCircuit} {
			circuit := New(settings(kind), nil, start)
			took, s := c.do(circuit), circuit.Status(start)
			until := time.Duration(0)
			if !s.Until.IsZero() {
				until = s.Until.Sub(start)
			}
			if took != c.took || s.State != c.state || until != c.until {
				t.Errorf("%s, %s: taken %t, it is %s for %s; want %t, %s for %s",
					kind, c.name, took, s.State, until, c.took, c.state, c.until)
			}
			if n, left := circuit.Own(start); n > 0 != c.own || left > 0 != c.own {
				t.Errorf("%s, %s: an opening of its own: %d, for %s", kind, c.name, n, left)
			}
		}
	}
}
