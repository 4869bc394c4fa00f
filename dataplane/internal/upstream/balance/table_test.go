package balance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestChangedTables draws lists of targets and changes of them, one after another: a table that is made from the one
// before is the same, hit by hit, as one that is made anew.
func TestChangedTables(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(61, 3000).Draw(t, "size")
		pool := keyed(40, 1)
		now := pool[:rapid.IntRange(2, 30).Draw(t, "targets")]
		table := newTable(now, size)
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			before := now
			now = slices.Clone(now)
			for range rapid.IntRange(1, 3).Draw(t, "at once") {
				at := rapid.IntRange(0, len(now)-1).Draw(t, "at")
				switch rapid.SampledFrom([]string{"goes", "comes", "weighs", "moves"}).Draw(t, "what") {
				case "goes":
					if len(now) > 1 {
						now = slices.Delete(now, at, at+1)
					}
				case "comes":
					one := pool[rapid.IntRange(0, len(pool)-1).Draw(t, "which")]
					one.Weight = rapid.Uint32Range(1, 5).Draw(t, "weight")
					if !slices.ContainsFunc(now, func(t Target) bool { return t.Key == one.Key }) {
						now = slices.Insert(now, at, one)
					}
				case "weighs":
					now[at].Weight = rapid.Uint32Range(0, 5).Draw(t, "weight")
				case "moves":
					now[at], now[0] = now[0], now[at]
				}
			}
			if !slices.ContainsFunc(now, func(t Target) bool { return t.Weight > 0 }) {
				return
			}
			anew := newTable(now, size)
			changed := table.changed(before, now)
			if changed == nil {
				changed = anew
			}
			if d := cmp.Diff(anew, changed, cmp.AllowUnexported(*anew)); d != "" {
				t.Fatalf("%v becomes %v (-anew +changed):\n%s", weightsOf(before), weightsOf(now), d)
			}
			table = changed
		}
	})
}

func weightsOf(ts []Target) (out []string) {
	for _, t := range ts {
		out = append(out, fmt.Sprintf("%s*%d", t.Key, t.Weight))
	}
	return out
}

// TestFewChangesKeepTheTable: what changes little of a list is not answered by making the table anew.
func TestFewChangesKeepTheTable(t *testing.T) {
	ts := keyed(100, 1)
	table := newTable(ts[:99], 4001)
	heavier := slices.Clone(ts[:99])
	heavier[7].Weight = 2
	for what, now := range map[string][]Target{
		"one comes": ts, "one goes": ts[:98], "one weighs more": heavier, "half go": ts[:50], "nine come": keyed(108, 1),
	} {
		if table.changed(ts[:99], now) == nil {
			t.Error(what)
		}
	}
	twice := slices.Concat(ts[:99], ts[:1])
	for what, now := range map[string][]Target{
		"half are others": append(keyed(160, 1)[110:], ts[:50]...), "one is there twice": twice,
	} {
		if table.changed(ts[:99], now) != nil {
			t.Errorf("%s: it is not made anew", what)
		}
	}
}

// BenchmarkTableChange is what a change of one of 100 targets costs, and which share that is of making the table anew,
// for the usual and the largest number of places.
func BenchmarkTableChange(b *testing.B) {
	ts := keyed(100, 1)
	heavier := slices.Clone(ts)
	heavier[7].Weight = 2
	for _, size := range []int{DefaultTableSize, 262_147} {
		for _, c := range []struct {
			what        string
			before, now []Target
		}{{"comes", ts[:99], ts}, {"goes", ts, ts[:99]}, {"weighs more", ts, heavier}} {
			b.Run(fmt.Sprint(size, " ", c.what), func(b *testing.B) {
				was := newTable(c.before, size)
				anew, changed := time.Hour, time.Hour // the least, which nothing else on the machine has a share in
				for range b.N {
					begun := time.Now()
					newTable(c.now, size)
					between := time.Now()
					was.changed(c.before, c.now)
					anew, changed = min(anew, between.Sub(begun)), min(changed, time.Since(between))
				}
				b.ReportMetric(float64(changed.Microseconds()), "us/change")
				b.ReportMetric(changed.Seconds()/anew.Seconds(), "of-anew")
			})
		}
	}
}
