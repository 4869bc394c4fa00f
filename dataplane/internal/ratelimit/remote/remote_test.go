package remote

import (
	"strings"
	"testing"
	"time"
)

// TestAnswersAreReadStrictly: who can make Redis answer anything can't say more than a limit allows.
func TestAnswersAreReadStrictly(t *testing.T) {
	all := Question{Limit: 10, Cost: 2, How: All}
	some := Question{Limit: 10, Cost: 5, How: Some}
	good := []any{int64(2), int64(8), int64(1000), int64(3), int64(0), int64(5)}
	got, err := parse(good, []Question{all, some})
	if err != nil || got[0] != (Answer{2, 8, time.Millisecond}) || got[1] != (Answer{3, 0, 5 * time.Microsecond}) {
		t.Fatalf("%v, %v", got, err)
	}
	change := func(i int, v any) []any {
		c := append([]any{}, good...)
		c[i] = v
		return c
	}
	for name, v := range map[string]any{
		"nothing": nil, "a text": "OK", "a number": int64(1), "too few": good[:5],
		"too many":     append(change(0, int64(2)), int64(1)),
		"a text in it": change(0, "2"), "a list in it": change(1, []any{}), "nil in it": change(2, nil),
		"less than nothing": change(0, int64(-2)), "another cost": change(0, int64(1)),
		"more than was asked for": change(3, int64(6)),
		"too much left":           change(1, int64(1<<40)), "too long": change(2, int64(1<<60)),
		"a time before": change(2, int64(-1)),
	} {
		if got, err := parse(v, []Question{all, some}); err == nil {
			t.Errorf("%s is %v", name, got)
		}
	}
}

// FuzzParse reads any answer of three numbers.
func FuzzParse(f *testing.F) {
	f.Add(int64(2), int64(8), int64(1000), int64(2), true)
	f.Add(int64(-1), int64(1)<<62, int64(1)<<62, int64(5), false)
	f.Fuzz(func(t *testing.T, took, left, wait, cost int64, whole bool) {
		q := Question{Limit: 10, Cost: cost, How: Some}
		if whole {
			q.How = All
		}
		got, err := parse([]any{took, left, wait}, []Question{q})
		if err != nil {
			return
		}
		if a := got[0]; a.Took < 0 || a.Took > cost || whole && a.Took != 0 && a.Took != cost ||
			a.Left < 0 || a.Left > maxLeft || a.Wait < 0 || a.Wait > longestWait {
			t.Errorf("%d %d %d of %d is %+v", took, left, wait, cost, a)
		}
	})
}

// TestGate closes when Redis fails, for longer each time, and lets one try.
func TestGate(t *testing.T) {
	var g gate
	now := time.Unix(1_800_000_000, 0)
	var states []string
	note := func() {
		if g.open(now, false) {
			states = append(states, "open")
		} else {
			states = append(states, "shut")
		}
	}
	for range maxLates {
		note()
		g.late(now)
	}
	note()
	now = now.Add(leastShut)
	if !g.open(now, true) || g.open(now, true) {
		t.Error("not just one tries")
	}
	if g.failed(now) {
		t.Error("it is said to have been open")
	}
	now = now.Add(leastShut)
	note() // the second time is twice as long
	now = now.Add(leastShut)
	note()
	if !g.open(now, true) || !g.good() || g.good() {
		t.Error("it does not open")
	}
	note()
	for range 2 {
		if !g.open(now, true) {
			t.Error("not all may ask")
		}
	}
	if !g.failed(now) {
		t.Error("a connection that fails does not close it")
	}
	note()
	if got := strings.Join(states, " "); got != "open open open open open shut shut open open shut" {
		t.Error(got)
	}
	for range 100 {
		g.failed(now)
		now = now.Add(mostShut)
	}
	if !g.open(now, false) {
		t.Error("it stays shut for longer than it may")
	}
}
