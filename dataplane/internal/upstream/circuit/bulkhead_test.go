package circuit

import (
	"slices"
	"testing"

	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// bulkhead returns a circuit with a single place, which its permit has, and some that wait for it, in their order.
func bulkhead(t *testing.T, waiting int) (c *hystrix, set *config.Circuit, first *Permit, wait []*Waiter) {
	t.Helper()
	set = settings(config.HystrixCircuit)
	set.Concurrent, set.Pending = 1, waiting
	c = New(set, nil, start).(*hystrix)
	first = &Permit{}
	if v := c.Admit(start, 0, first); v != Admitted {
		t.Fatalf("the first: %s", v.text())
	}
	for range waiting {
		w := NewWaiter()
		if v := c.Queue(w); v != Busy {
			t.Fatalf("who is to wait: %s", v.text())
		}
		wait = append(wait, w)
	}
	return c, set, first, wait
}

// TestWhoWaitsIsServedInTurn gives the only place to those that wait, in the order in which they came; one of them has
// given up meanwhile.
func TestWhoWaitsIsServedInTurn(t *testing.T) {
	c, _, has, wait := bulkhead(t, 4)
	if c.Unqueue(wait[1]) {
		t.Error("who gives up had a place")
	}
	var order []int
	for range 3 {
		has.Leave()
		for i, w := range wait {
			select {
			case <-w.Done:
				order = append(order, i)
				if !c.Unqueue(w) {
					t.Errorf("%d was woken without a place", i)
				}
				has = &Permit{}
				c.Enter(start, 0, has)
			default:
			}
		}
	}
	if !slices.Equal(order, []int{0, 2, 3}) {
		t.Errorf("served in the order %v", order)
	}
	has.Leave()
	if s := c.Status(start); s.Concurrent != 0 || s.Pending != 0 || s.Rejected != 1 {
		t.Errorf("in the end: %+v", s)
	}
}

// TestNobodyOvertakes has a new attempt come just when a place was given back, before the one that waits for it has it.
func TestNobodyOvertakes(t *testing.T) {
	c, _, has, wait := bulkhead(t, 1)
	c.queueMu.Lock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		has.Leave()
	}()
	waittest.Until(t, "the place is given back", func() bool { return c.inUse.count() == 0 })
	var p Permit
	if v := c.Admit(start, 0, &p); v != Busy {
		t.Errorf("who comes later gets %s", v.text())
	}
	c.queueMu.Unlock()
	waittest.Receive(t, "the end", done)
	if !c.Unqueue(wait[0]) {
		t.Error("who waited has no place")
	}
}

// TestMorePlacesAtOnce has a greater limit serve those that wait at once.
func TestMorePlacesAtOnce(t *testing.T) {
	c, set, _, wait := bulkhead(t, 2)
	more := *set
	more.Concurrent = 2
	c.Set(&more)
	if len(wait[0].Done) != 1 || len(wait[1].Done) != 0 {
		t.Error("the first that waits has no place, or the second has")
	}
}

// TestRefusedHoldNoPlace has a half-open circuit refuse attempts that were within the limit.
func TestRefusedHoldNoPlace(t *testing.T) {
	for _, limit := range []int{0, 100} {
		set := settings(config.HystrixCircuit)
		set.Concurrent = limit
		c := New(set, nil, start)
		for range 4 {
			ask(c, start, bad)
		}
		now := start.Add(set.Timeout)
		var probes [3]Permit
		for i := range probes {
			c.Admit(now, 0, &probes[i])
		}
		for range 5 {
			if ask(c, now, good) {
				t.Error("there was a fourth place")
			}
		}
		if n := c.Status(now).Concurrent; n != 3 {
			t.Errorf("with a limit of %d, %d are under way, want 3", limit, n)
		}
	}
}
