package match

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func TestOvertaken(t *testing.T) {
	shop := func(r *configv1.Route) *configv1.Route {
		r.Name, r.Hosts = "shop", []string{"shop.example"}
		if r.GetPath() == "" {
			r.Path = "/*"
		}
		return r
	}
	for name, c := range map[string]struct {
		host, other *configv1.Route
		more        []*configv1.Route
		want        string // the request, "": none
	}{
		"a prefix": {shop(&configv1.Route{}), &configv1.Route{Path: "/api/*"}, nil,
			"GET shop.example/api"},
		"an exact path": {shop(&configv1.Route{}), &configv1.Route{Path: "/api"}, nil,
			"GET shop.example/api"},
		"a path with parameters": {shop(&configv1.Route{}), &configv1.Route{Path: "/{a}/b"}, nil,
			"GET shop.example/x/b"},
		"any of a wildcard": {&configv1.Route{Name: "shop", Path: "/*", Hosts: []string{"*.shop.example"}},
			&configv1.Route{Path: "/api/*"}, nil, "GET *.shop.example/api"},
		"below a prefix": {shop(&configv1.Route{Path: "/api/*"}), &configv1.Route{Path: "/api/users/*"}, nil,
			"GET shop.example/api/users"},
		"in other letters": {shop(&configv1.Route{Path: "/API/*", IgnoreCase: true}),
			&configv1.Route{Path: "/Api/Users"}, nil, "GET shop.example/Api/Users"},
		"beside a prefix": {shop(&configv1.Route{Path: "/api/*"}), &configv1.Route{Path: "/users/*"}, nil, ""},
		"as long":         {shop(&configv1.Route{}), &configv1.Route{Path: "/*"}, nil, ""},
		"for another host": {shop(&configv1.Route{}),
			&configv1.Route{Path: "/api/*", Hosts: []string{"other.example"}}, nil, ""},
		"a priority that says so":    {shop(&configv1.Route{}), &configv1.Route{Path: "/api/*", Priority: 1}, nil, ""},
		"a priority that forbids it": {shop(&configv1.Route{Priority: 1}), &configv1.Route{Path: "/api/*"}, nil, ""},
		"for other methods": {shop(&configv1.Route{Methods: []string{"GET"}}),
			&configv1.Route{Path: "/api/*", Methods: []string{"PUT"}}, nil, ""},
		"for one method": {shop(&configv1.Route{Methods: []string{"GET", "POST"}}),
			&configv1.Route{Path: "/api/*", Methods: []string{"PUT", "POST"}}, nil, "POST shop.example/api"},
		"over another scheme": {shop(&configv1.Route{Schemes: []string{"https"}}),
			&configv1.Route{Path: "/api/*", Schemes: []string{"http"}}, nil, ""},
		"over the same scheme": {shop(&configv1.Route{Schemes: []string{"https"}}), &configv1.Route{Path: "/api/*"},
			nil, "GET shop.example/api"},
		"at another port": {shop(&configv1.Route{Ports: []uint32{1}}),
			&configv1.Route{Path: "/api/*", Ports: []uint32{2}}, nil, ""},
		"with a header": {shop(&configv1.Route{}),
			&configv1.Route{Path: "/api/*", Headers: []*configv1.HeaderMatch{{Name: "X",
				Match: &configv1.HeaderMatch_Exact{Exact: "1"}}}}, nil, ""},
		"a regex": {shop(&configv1.Route{}), &configv1.Route{Path: "~/api/.*"}, nil, ""},
		"the host's own longer path": {shop(&configv1.Route{}), &configv1.Route{Path: "/api/*"},
			[]*configv1.Route{{Name: "own", Path: "/api/*", Hosts: []string{"shop.example"}}}, ""},
		"one of two is the host's own": {shop(&configv1.Route{}), &configv1.Route{Path: "/b"},
			[]*configv1.Route{{Name: "own", Path: "/a", Hosts: []string{"shop.example"}},
				{Name: "any", Path: "/a"}}, "GET shop.example/b"},
	} {
		t.Run(name, func(t *testing.T) {
			c.other.Name = "other"
			var rules []*Rule
			for i, r := range append(c.more, c.host, c.other) {
				r.Id = fmt.Sprint(i)
				rules = append(rules, rule(t, r))
			}
			table := Compile(rules)
			for _, changed := range [][]*Rule{rules, rules[len(rules)-2 : len(rules)-1], rules[len(rules)-1:]} {
				these := map[*Rule]bool{}
				for _, r := range changed {
					these[r] = true
				}
				got := ""
				for _, pair := range table.Overtaken(these) {
					if pair.Rule.Name != "shop" || pair.By.Name != "other" {
						t.Errorf("%q by %q", pair.Rule.Name, pair.By.Name)
					}
					got += pair.Request.Method + " " + pair.Host + pair.Request.Path
				}
				if got != c.want {
					t.Errorf("with %d changed: %q, want %q", len(changed), got, c.want)
				}
			}
		})
	}
}

// TestOvertakenIsSo: what is said of generated rules is so, by a walk over all.
func TestOvertakenIsSo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		these := map[*Rule]bool{}
		var all []*Rule
		for i := range rapid.IntRange(0, 12).Draw(t, "rules") {
			r := drawRule(t, fmt.Sprint("r", i))
			if rapid.Bool().Draw(t, "changed") {
				these[r] = true
			}
			all = append(all, r)
		}
		for _, pair := range Compile(all).Overtaken(these) {
			q := &pair.Request
			if got := scan(all, q); got != pair.By {
				t.Fatalf("%+v goes to %q, not to %q", q, name(got), pair.By.Name)
			}
			if got := scan([]*Rule{pair.Rule}, q); got != pair.Rule {
				t.Fatalf("%+v is not for %q", q, pair.Rule.Name)
			}
			if !these[pair.Rule] && !these[pair.By] {
				t.Fatalf("neither %q nor %q changed", pair.Rule.Name, pair.By.Name)
			}
		}
	})
}
