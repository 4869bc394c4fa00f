package routing

import (
	"slices"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/match"
	"gateway.internal/shared/pathnorm"
)

// rulesOf compiles routes that all see paths in forms of their own.
func rulesOf(t *testing.T, forms *PathForms, routes ...*configv1.Route) []*match.Rule {
	t.Helper()
	c := NewCompiler(config.Empty(), forms)
	var rules []*match.Rule
	for _, msg := range routes {
		r, rule, err := c.Route(msg)
		if err != nil {
			t.Fatal(err)
		}
		rule.Value = r
		rules = append(rules, rule)
	}
	return rules
}

func optioned(id string, o *configv1.PathOptions) *configv1.Route {
	return &configv1.Route{
		Id: id, Name: id, Path: "/" + id + "/*", PathOptions: o, DirectResponse: &configv1.DirectResponse{},
	}
}

// The reason why a path is refused does not depend on the order in which a node got its routes, nor on whether it got
// them together.
func TestOneReasonInAnyOrder(t *testing.T) {
	forms := NewPathForms(pathnorm.DefaultSettings())
	rules := rulesOf(t, forms,
		optioned("a", &configv1.PathOptions{EmptySegments: "refuse"}),
		optioned("b", &configv1.PathOptions{EncodedSlash: "normalise"}),
		optioned("c", &configv1.PathOptions{Parameters: "refuse", EncodedSlash: "normalise"}),
		optioned("d", nil),
	)
	backwards := slices.Clone(rules)
	slices.Reverse(backwards)
	empty := NewTables(forms.Node())
	tables := []Tables{empty.With(nil, rules), empty.With(nil, backwards)}
	step := empty
	for _, rule := range backwards {
		step = step.With(nil, []*match.Rule{rule})
	}
	tables = append(tables, step, step.With([]string{"a"}, rules[:1]))
	for _, path := range []string{"/x//%2F;y", "/x%2F;y//", "/a//b", "/c/x;y", "/b//a%2F"} {
		var first Found
		for i := range tables {
			var params match.Params
			var memory Memory
			got := tables[i].Find(&match.Request{Method: "GET"}, path, &params, &memory)
			if i == 0 {
				first = got
			}
			if got.Refused != first.Refused || got.Path != first.Path || got.Rule != first.Rule {
				t.Errorf("%s, tables %d: refused %q as %q; tables 0: %q as %q", path, i, got.Refused, got.Path, first.Refused,
					first.Path)
			}
		}
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	forms := NewPathForms(pathnorm.DefaultSettings())
	plain := rulesOf(t, forms, optioned("d", nil))
	views := append(rulesOf(t, forms, optioned("b", &configv1.PathOptions{EncodedSlash: "keep"})), plain...)
	empty := NewTables(forms.Node())
	for _, rules := range [][]*match.Rule{plain, views} {
		tables := empty.With(nil, rules)
		var params match.Params
		var memory Memory
		q := match.Request{Method: "GET", Host: "h"}
		if n := testing.AllocsPerRun(100, func() {
			for _, path := range []string{"/d/x", "/d//x%2d", "/b/x%2fy", "/d/../x"} {
				tables.Find(&q, path, &params, &memory)
			}
		}); n != 0 {
			t.Errorf("%d views: %v allocations", len(tables.Views), n)
		}
	}
}

// A rewrite that only puts parts together uses memory that it is given.
func TestRewriteDoesNotAllocate(t *testing.T) {
	forms := NewPathForms(pathnorm.DefaultSettings())
	prefix := &configv1.Route{Id: "p", Name: "p", Path: "/p/*", DirectResponse: &configv1.DirectResponse{}}
	prefix.Rewrite = &configv1.Rewrite{PathRewrite: &configv1.Rewrite_Prefix{Prefix: "/q"}}
	template := &configv1.Route{Id: "t", Name: "t", Path: "/t/{x}", DirectResponse: &configv1.DirectResponse{}}
	template.Rewrite = &configv1.Rewrite{PathRewrite: &configv1.Rewrite_Path{Path: "/of/{x}"}}
	empty := NewTables(forms.Node())
	tables := empty.With(nil, rulesOf(t, forms, prefix, template))
	for path, want := range map[string]string{"/p/a": "/q/a", "/p": "/q", "/t/a": "/of/a"} {
		var params match.Params
		var memory Memory
		q := match.Request{Method: "GET"}
		r := routeOf(tables.Find(&q, path, &params, &memory).Rule)
		texts := make([]byte, 0, 64)
		got := ""
		if n := testing.AllocsPerRun(100, func() {
			texts = texts[:0]
			got, _ = r.ForwardPath(tables.Paths, q.Path, &params, &texts, &memory[1])
		}); n != 0 || got != want {
			t.Errorf("%s: %q with %v allocations, want %q", path, got, n, want)
		}
	}
}

func TestEveryNumberChoosesAShare(t *testing.T) {
	s := Split{Shares: []Share{
		{ServiceID: "none"}, {ServiceID: "two", Weight: 2}, {ServiceID: "never"}, {ServiceID: "one", Weight: 1},
	}, Total: 3}
	var chosen []string
	for n := range s.Total {
		chosen = append(chosen, s.Shares[s.draw(n)].ServiceID)
	}
	if want := []string{"two", "two", "one"}; !slices.Equal(chosen, want) {
		t.Errorf("%v, want %v", chosen, want)
	}
}
