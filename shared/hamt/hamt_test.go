package hamt

import (
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"
)

type thing struct {
	key   string
	value int
}

type byKey struct{}

func (byKey) Of(t *thing) string { return t.key }

type things = Map[*thing, byKey]

// content reads a map, and finds values that are there twice.
func content(t interface{ Fatalf(string, ...any) }, m things) map[string]*thing {
	all := map[string]*thing{}
	for v := range m.All() {
		if all[v.key] != nil {
			t.Fatalf("%s is there twice", v.key)
		}
		all[v.key] = v
	}
	if len(all) != m.Len() {
		t.Fatalf("%d values, and the length is %d", len(all), m.Len())
	}
	return all
}

// TestIsAMap makes random changes, and compares each map that they lead to with a map of Go: former ones stay as they
// were, and what differs between any two is what differs between those of Go.
func TestIsAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		maps_, models := []things{{}}, []map[string]*thing{{}}
		for range rapid.IntRange(1, 5).Draw(rt, "maps") {
			from := rapid.IntRange(0, len(maps_)-1).Draw(rt, "from")
			d, model := maps_[from].Draft(), maps.Clone(models[from])
			for range rapid.IntRange(0, 40).Draw(rt, "changes") {
				key := fmt.Sprint(rapid.IntRange(0, 60).Draw(rt, "key"))
				was := model[key]
				if rapid.IntRange(0, 2).Draw(rt, "remove") == 0 {
					if got := d.Remove(key); got != was {
						rt.Fatalf("removed %v instead of %v", got, was)
					}
					delete(model, key)
				} else {
					v := &thing{key, rapid.Int().Draw(rt, "value")}
					if got := d.Put(v); got != was {
						rt.Fatalf("replaced %v instead of %v", got, was)
					}
					model[key] = v
				}
				if d.Get(key) != model[key] {
					rt.Fatalf("%s is %v", key, d.Get(key))
				}
			}
			maps_, models = append(maps_, d.Map()), append(models, model)
		}
		for i := range maps_ {
			if got := content(rt, maps_[i]); !maps.Equal(got, models[i]) {
				rt.Fatalf("map %d has %v, not %v", i, got, models[i])
			}
			for j := range maps_ {
				patched := maps.Clone(models[i])
				Diff(maps_[i], maps_[j], func(before, after *thing) {
					if before == after || before != nil && patched[before.key] != before {
						rt.Fatalf("from %d to %d: %v becomes %v", i, j, before, after)
					}
					if after == nil {
						delete(patched, before.key)
					} else {
						patched[after.key] = after
					}
				})
				if !maps.Equal(patched, models[j]) {
					rt.Fatalf("from %d to %d: %v, not %v", i, j, patched, models[j])
				}
			}
		}
	})
}

// TestSameHash has keys whose hashes are the same: they are told apart all the same.
func TestSameHash(t *testing.T) {
	d := things{}.Draft()
	n := &node[*thing]{owner: d.owner}
	a, b, c := &thing{key: "a"}, &thing{key: "b"}, &thing{key: "c"}
	for _, v := range []*thing{a, b, c} {
		n, _ = d.put(n, hashBits, 0, v)
	}
	other := &thing{key: "b"}
	next, old := d.put(n, hashBits, 0, other)
	if old != b || find[*thing, byKey](next, "b") != 1 || len(next.leaves) != 3 {
		t.Errorf("replaced %v in %v", old, next.leaves)
	}
	next, old = d.remove(next, hashBits, 0, "a")
	if old != a || len(next.leaves) != 2 {
		t.Errorf("removed %v from %v", old, next.leaves)
	}
	found := 0
	with := &node[*thing]{leaves: []*thing{a, other}}
	differ[*thing, byKey]{func(*thing, *thing) { found++ }}.nodes(with, &node[*thing]{leaves: []*thing{b, c}}, hashBits)
	if found != 3 { // a is gone, b is another, c is new
		t.Errorf("%d differences", found)
	}
	// Two whose hashes differ at their end only are in nodes that have one below the other, and none is left for one.
	d = things{}.Draft()
	root := &node[*thing]{owner: d.owner}
	root, _ = d.put(root, 0, 0, a)
	if root, old = d.remove(root, 0, 0, "a"); old != a || len(root.leaves) != 0 {
		t.Errorf("removed %v", old)
	}
}

// TestSharesWhatStays: a change of a large map costs some small allocations, and what differs is found without going
// through the rest.
func TestSharesWhatStays(t *testing.T) {
	d := things{}.Draft()
	for i := range 100_000 {
		d.Put(&thing{fmt.Sprint(i), i})
	}
	m := d.Map()
	var next things
	v := &thing{"77", -1}
	if n := testing.AllocsPerRun(10, func() {
		d := m.Draft()
		d.Put(v)
		next = d.Map()
	}); n > 20 {
		t.Errorf("%v allocations", n)
	}
	calls := 0
	if n := testing.AllocsPerRun(10, func() { Diff(m, next, func(*thing, *thing) { calls++ }) }); n > 2 || calls != 11 {
		t.Errorf("%v allocations, %d differences in 11 runs", n, calls)
	}
	if n := testing.AllocsPerRun(10, func() { m.Get("4711") }); n != 0 {
		t.Errorf("%v allocations of Get", n)
	}
}

func BenchmarkGet(b *testing.B) {
	d := things{}.Draft()
	for i := range 1_000_000 {
		d.Put(&thing{fmt.Sprint(i), i})
	}
	m := d.Map()
	i := 0
	keys := make([]string, 1024)
	for i := range keys {
		keys[i] = fmt.Sprint(i * 977)
	}
	b.ReportAllocs()
	for b.Loop() {
		if m.Get(keys[i&1023]) == nil {
			b.Fatal("not there")
		}
		i++
	}
}

func BenchmarkPut(b *testing.B) {
	d := things{}.Draft()
	for i := range 1_000_000 {
		d.Put(&thing{fmt.Sprint(i), i})
	}
	m := d.Map()
	v := &thing{"77", -1}
	b.ReportAllocs()
	for b.Loop() {
		d := m.Draft()
		d.Put(v)
		m = d.Map()
	}
}
