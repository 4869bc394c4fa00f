package match

import (
	"fmt"
	"runtime"
	"testing"
	"weak"

	"pgregory.net/rapid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func rulesOf(t testing.TB, n int, route func(i int) *configv1.Route) []*Rule {
	t.Helper()
	rules := make([]*Rule, n)
	for i := range rules {
		r := route(i)
		r.Id, r.Name = fmt.Sprint(i), fmt.Sprint("r", i)
		rules[i] = rule(t, r)
	}
	return rules
}

// TestTablesAreLetGo: a table that others were derived from is kept by none of them, whatever they share with it.
func TestTablesAreLetGo(t *testing.T) {
	for name, path := range map[string]string{"prefixes": "/a%d/*", "exact paths": "/a%d", "parameters": "/a%d/{x}", "regexes": "~/a%d/[0-9]+"} {
		t.Run(name, func(t *testing.T) {
			rules := rulesOf(t, 20, func(i int) *configv1.Route { return &configv1.Route{Path: fmt.Sprintf(path, i)} })
			table := Compile(rules)
			var old []weak.Pointer[Table]
			for i := range 10 {
				old = append(old, weak.Make(table))
				table = table.With([]string{fmt.Sprint(i)}, rulesOf(t, 1, func(int) *configv1.Route {
					return &configv1.Route{Path: fmt.Sprintf(path, 100+i)}
				}))
			}
			runtime.GC()
			for i, p := range old {
				if p.Value() != nil {
					t.Errorf("table %d of %d is still there", i, len(old))
				}
			}
			runtime.KeepAlive(table)
		})
	}
}

// settled reports what is wrong with what a table knows of its nodes' best rules.
func (n *node) settled() error {
	if n == nil {
		return nil
	}
	for _, c := range n.literals {
		if err := c.settled(); err != nil {
			return err
		}
	}
	if err := n.param.settled(); err != nil {
		return err
	}
	for _, k := range []*bucket{n.here, n.below} {
		if k != nil && (k.news != nil || k.top == nil || k.top != k.findTop()) {
			return fmt.Errorf("a bucket's best rule is %v, not %v", k.top, k.findTop())
		}
	}
	if n.stale || n.top == nil || n.top != n.findTop() {
		return fmt.Errorf("a node's best rule is %v, not %v", n.top, n.findTop())
	}
	return nil
}

func (n *literal) settled() error {
	if n == nil {
		return nil
	}
	best := (*Rule)(nil)
	if n.here != nil {
		if best = n.here.top; best == nil || best != n.here.findTop() {
			return fmt.Errorf("a bucket of regexes has the best rule %v", best)
		}
	}
	for _, kid := range n.kids {
		if err := kid.settled(); err != nil {
			return err
		}
		if best == nil || Compare(kid.top, best) < 0 {
			best = kid.top
		}
	}
	if n.stale || n.top != best || best == nil {
		return fmt.Errorf("a text's best rule is %v, not %v", n.top, best)
	}
	return nil
}

// TestBestRules changes tables at random: every node and bucket knows its best rule afterwards, in the table that was
// derived and in the one before.
func TestBestRules(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		table, n := Compile(nil), 0
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			var remove []string
			var add []*Rule
			for id := range table.rules {
				if rapid.IntRange(0, 2).Draw(rt, "gone") == 0 {
					remove = append(remove, id)
				}
			}
			for range rapid.IntRange(0, 6).Draw(rt, "new") {
				r := &configv1.Route{
					Id: fmt.Sprint("id", rapid.IntRange(0, 12).Draw(rt, "id")), Name: fmt.Sprint("n", n), Priority: int32(rapid.IntRange(0, 3).Draw(rt, "priority")),
					Path: rapid.SampledFrom([]string{"/*", "/a/*", "/a/b/*", "/a", "/a/b", "/a/{x}", "/{x}/b", "/c/{x}/d", "~/a/[0-9]+", "~/ab[0-9]+", "~/a[0-9]+", "~/a/b/c.*"}).Draw(rt, "path"),
				}
				if rapid.Bool().Draw(rt, "has a host") {
					r.Hosts = []string{rapid.SampledFrom([]string{"a.test", "b.test", "*.test"}).Draw(rt, "host")}
				}
				n++
				add = append(add, rule(t, r))
			}
			next := table.With(remove, add)
			for _, tb := range []*Table{table, next} {
				for _, s := range []*paths{&tb.plain, &tb.fold} {
					if err := s.root.settled(); err != nil {
						rt.Fatal(err)
					}
					if err := s.regex.settled(); err != nil {
						rt.Fatal(err)
					}
				}
			}
			table = next
		}
	})
}

// BenchmarkAllOfOnePattern changes all routes of one path, each for a host of its own: the cost of one has to be the
// same for any number.
func BenchmarkAllOfOnePattern(b *testing.B) {
	for _, n := range []int{1000, 20_000} {
		rules := func(priority int) []*Rule {
			return rulesOf(b, n, func(i int) *configv1.Route {
				return &configv1.Route{Path: "/*", Hosts: []string{fmt.Sprintf("h%d.test", i)}, Priority: int32(priority)}
			})
		}
		before, after := rules(0), rules(1)
		table := Compile(before)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				table.With(nil, after)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/route")
		})
	}
}

// TestManyOfOnePattern changes every rule of one pattern at once, which must not copy their list for each of them.
func TestManyOfOnePattern(t *testing.T) {
	const n = 5_000
	for name, hosts := range map[string][]string{"no host": nil, "one host": {"h.example"},
		"one wildcard": {"*.h.example"}} {
		t.Run(name, func(t *testing.T) {
			route := func(i int) *configv1.Route {
				return &configv1.Route{Path: "/*", Hosts: hosts, Headers: []*configv1.HeaderMatch{{Name: fmt.Sprint("x", i)}}}
			}
			table, again := Compile(rulesOf(t, n, route)), rulesOf(t, n, route)
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprint(i)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			changed := table.With(ids, again).With(ids[1:], nil)
			runtime.ReadMemStats(&after)
			if took := (after.TotalAlloc - before.TotalAlloc) / n; took > 4<<10 {
				t.Errorf("each of %d rules took %d bytes", n, took)
			}
			if left := changed.All(); len(left) != 1 || left[0] != again[0] {
				t.Errorf("%d rules are left", len(left))
			}
		})
	}
}
