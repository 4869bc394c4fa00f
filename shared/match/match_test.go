package match

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/hostname/hostnametest"
)

func rule(t testing.TB, r *configv1.Route) *Rule {
	t.Helper()
	if r.GetId() == "" {
		r.Id = r.GetName()
	}
	parsed, errs := Parse(r)
	if len(errs) > 0 {
		t.Fatalf("parse %v: %v", r, errs)
	}
	return parsed
}

func name(r *Rule) string {
	if r == nil {
		return ""
	}
	return r.Name
}

func TestPrecedence(t *testing.T) {
	table := Compile([]*Rule{
		rule(t, &configv1.Route{Name: "root", Path: "/*"}),
		rule(t, &configv1.Route{Name: "users", Path: "/users/*"}),
		rule(t, &configv1.Route{Name: "user", Path: "/users/{id}"}),
		rule(t, &configv1.Route{Name: "me", Path: "/users/me"}),
		rule(t, &configv1.Route{Name: "orders", Path: "/users/{id}/orders"}),
		rule(t, &configv1.Route{Name: "digits", Path: "~/[0-9]+"}),
		rule(t, &configv1.Route{Name: "post", Path: "/users/me", Method: "POST"}),
		rule(t, &configv1.Route{Name: "host", Path: "/users/me", Hosts: []string{"a.example.com"}}),
		rule(t, &configv1.Route{Name: "wild", Path: "/users/me", Hosts: []string{"*.example.org"}}),
		rule(t, &configv1.Route{Name: "urgent", Path: "/urgent/*", Priority: 5}),
		rule(t, &configv1.Route{Name: "urgent-exact", Path: "/urgent/x"}),
		rule(t, &configv1.Route{Name: "beta", Path: "/users/me", Query: []*configv1.QueryMatch{{Name: "beta", Match: &configv1.QueryMatch_Exact{Exact: "a b"}}}}),
	})
	for _, c := range []struct{ method, host, target, want string }{
		{"GET", "x", "/", "root"},
		{"GET", "x", "/users", "users"},
		{"GET", "x", "/users/", "users"},
		{"GET", "x", "/usersx", "root"},
		{"GET", "x", "/users/7", "user"},
		{"GET", "x", "/users/7/", "users"},
		{"GET", "x", "/users/me", "me"},
		{"GET", "x", "/users/me?beta=a+b", "beta"},
		{"GET", "x", "/users/me?x=1&beta=a%20b", "beta"},
		{"POST", "x", "/users/me", "post"},
		{"GET", "A.example.com:8080", "/users/me", "host"},
		{"GET", "a.example.com.", "/users/me", "host"},
		{"GET", "b.c.example.org", "/users/me", "wild"},
		{"GET", "example.org", "/users/me", "me"},
		{"GET", "x", "/users/7/orders", "orders"},
		{"GET", "x", "/42", "digits"},
		{"GET", "x", "/urgent/x", "urgent"},
	} {
		path, query, _ := strings.Cut(c.target, "?")
		var p Params
		if got := table.Match(&Request{Method: c.method, Host: c.host, Path: path, RawQuery: query}, &p); name(got) != c.want {
			t.Errorf("%s %s%s: got %q, want %q", c.method, c.host, c.target, name(got), c.want)
		}
	}
}

func TestHosts(t *testing.T) {
	for _, c := range hostnametest.Cases() {
		one := rule(t, &configv1.Route{Name: "one", Path: "/*", Hosts: []string{c.Pattern}})
		table := Compile([]*Rule{one})
		q := &Request{Method: "GET", Host: c.Host, Path: "/"}
		var p Params
		if got := table.Match(q, &p) == one; got != c.Matches {
			t.Errorf("a route for %q takes a request for %q: %v", c.Pattern, c.Host, got)
		}
		if got := len(table.MatchAll(q)) == 1; c.Host != "" && got != c.Matches {
			t.Errorf("a route for %q is listed for %q: %v", c.Pattern, c.Host, got)
		}
	}
}

// Nodes match paths in their normal form, so patterns are brought into it.
func TestEscapesInPatterns(t *testing.T) {
	table := Compile([]*Rule{
		rule(t, &configv1.Route{Name: "exact", Path: "/%61/m%c3%bcller"}),
		rule(t, &configv1.Route{Name: "prefix", Path: "/%7euser/*"}),
		rule(t, &configv1.Route{Name: "parameter", Path: "/x%2fy/{id}"}),
	})
	for path, want := range map[string]string{"/a/m%C3%BCller": "exact", "/~user/1": "prefix", "/x%2Fy/7": "parameter", "/x/y/7": ""} {
		var p Params
		if got := name(table.Match(&Request{Path: path}, &p)); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

func TestCaseIsIgnoredByChoice(t *testing.T) {
	one := func(name, path string) *Rule {
		return rule(t, &configv1.Route{Name: name, Path: path, IgnoreCase: true})
	}
	table := Compile([]*Rule{
		one("exact", "/Shop/Cart"), one("parameter", "/Shop/{Item}/Price"), one("regex", "~/Shop/v(?P<n>[0-9a-f]+)/.*"), one("prefix", "/SHOP/*"),
		one("escape", "/m%c3%bcller"), rule(t, &configv1.Route{Name: "as it is", Path: "/shop/cart"}), rule(t, &configv1.Route{Name: "cased", Path: "/shop/Sub/*"}),
	})
	for _, c := range []struct{ path, want, param, value string }{
		{"/shop/CART", "exact", "", ""},
		{"/shop/cart", "as it is", "", ""},
		{"/SHOP/Blue/PRICE", "parameter", "Item", "Blue"},
		{"/shoP/V1F/X", "regex", "n", "1F"},
		{"/shop/Other/x", "prefix", "", ""},
		{"/shop/Sub/x", "cased", "", ""},
		{"/shop/sub/x", "prefix", "", ""},
		{"/M%C3%BCLLER", "escape", "", ""},
		{"/m%C3%9CLLER", "", "", ""}, // letters of other scripts are not compared without case
		{"/shopx", "", "", ""},
	} {
		var p Params
		got := name(table.Match(&Request{Method: "GET", Path: c.path}, &p))
		if v, _ := p.Get(c.param); got != c.want || v != c.value {
			t.Errorf("%s: got %q with %q, want %q with %q", c.path, got, v, c.want, c.value)
		}
	}
	var p Params
	q := &Request{Method: "GET", Path: "/SHOP/Blue/PRICE"}
	if n := testing.AllocsPerRun(100, func() { table.Match(q, &p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	all, shop := one("all", "/API/*"), rule(t, &configv1.Route{Name: "users", Path: "/api/Users/{id}", Priority: -1})
	if by := Compile([]*Rule{all, shop}).Shadowed(shop, unlimited()); by != all {
		t.Errorf("a route below a prefix of any case is shadowed by %q", name(by))
	}
}

func TestParams(t *testing.T) {
	table := Compile([]*Rule{
		rule(t, &configv1.Route{Name: "a", Path: "/users/{user}/orders/{order}"}),
		rule(t, &configv1.Route{Name: "b", Path: "/files/{bucket}/*"}),
		rule(t, &configv1.Route{Name: "c", Path: "~/v(?P<major>[0-9]+)/x"}),
	})
	var p Params
	table.Match(&Request{Path: "/users/ann/orders/7"}, &p)
	if u, _ := p.Get("user"); u != "ann" {
		t.Errorf("user = %q", u)
	}
	if o, _ := p.Get("order"); o != "7" {
		t.Errorf("order = %q", o)
	}
	table.Match(&Request{Path: "/files/b1/x/y"}, &p)
	if b, _ := p.Get("bucket"); b != "b1" || p.PrefixLength() != len("/files/b1") {
		t.Errorf("bucket = %q, prefix length = %d", b, p.PrefixLength())
	}
	table.Match(&Request{Path: "/v12/x"}, &p)
	if m, _ := p.Get("major"); m != "12" {
		t.Errorf("major = %q", m)
	}
}

// TestErrorsSayWhat: errors name what is wrong as a whole, and in the words of the configuration.
func TestErrorsSayWhat(t *testing.T) {
	for path, want := range map[string]string{
		"/größe/*":  `has the character 'ö', which a path may only have percent-encoded: %C3%B6`,
		"/a b":      `has the character ' ', which a path may only have percent-encoded: %20`,
		"/{größe}":  `has the parameter name "größe"`,
		"~(":        "is no RE2 regular expression: missing closing ): `(`",
		"~(?P<a>x)": "",
	} {
		_, errs := Parse(&configv1.Route{Path: path})
		if got := fmt.Sprint(errs); (want == "") != (len(errs) == 0) || !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %q", path, got, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		route *configv1.Route
		field string
	}{
		{&configv1.Route{}, "path"},
		{&configv1.Route{Path: "x"}, "path"},
		{&configv1.Route{Path: "/a*"}, "path"},
		{&configv1.Route{Path: "/*/a"}, "path"},
		{&configv1.Route{Path: "/{a"}, "path"},
		{&configv1.Route{Path: "/{1}"}, "path"},
		{&configv1.Route{Path: "/{a}/{a}"}, "path"},
		{&configv1.Route{Path: "/a/../b"}, "path"},
		{&configv1.Route{Path: "/a/%2e%2E/b"}, "path"},
		{&configv1.Route{Path: "/a b"}, "path"},
		{&configv1.Route{Path: "/%zz"}, "path"},
		{&configv1.Route{Path: "~("}, "path"},
		{&configv1.Route{Path: "/" + strings.Repeat("a/", 70)}, "path"},
		{&configv1.Route{Path: "/a", Method: "GET", Methods: []string{"GET"}}, "method"},
		{&configv1.Route{Path: "/a", Methods: []string{"GET", "GE T"}}, "methods[1]"},
		{&configv1.Route{Path: "/a", Hosts: []string{"a:80"}}, "hosts[0]"},
		{&configv1.Route{Path: "/a", Hosts: []string{"*"}}, "hosts[0]"},
		{&configv1.Route{Path: "/a", Hosts: []string{".a.com"}}, "hosts[0]"},
		{&configv1.Route{Path: "/a", Hosts: []string{"a.com", "A.com"}}, "hosts[1]"},
		{&configv1.Route{Path: "/a", Headers: []*configv1.HeaderMatch{{Name: "x y"}}}, "headers[0].name"},
		{&configv1.Route{Path: "/a", Headers: []*configv1.HeaderMatch{{Name: "x", Match: &configv1.HeaderMatch_Regex{Regex: "("}}}}, "headers[0].regex"},
		{&configv1.Route{Path: "/a", Query: []*configv1.QueryMatch{{}}}, "query[0].name"},
		{&configv1.Route{Path: "/a", Priority: 2_000_000}, "priority"},
	} {
		_, errs := Parse(c.route)
		if len(errs) != 1 || errs[0].Field != c.field {
			t.Errorf("%v: got %v, want one error at %s", c.route, errs, c.field)
		}
	}
}

// unlimited lets a search end by itself.
func unlimited() *Comparisons {
	comparisons := Comparisons(1 << 30)
	return &comparisons
}

func TestShadowed(t *testing.T) {
	all := rule(t, &configv1.Route{Name: "all", Path: "/api/*", Priority: 10})
	one := rule(t, &configv1.Route{Name: "one", Path: "/api/users/{id}"})
	same := rule(t, &configv1.Route{Name: "same", Path: "/x", Methods: []string{"GET", "POST"}})
	twin := rule(t, &configv1.Route{Name: "twin", Path: "/x", Methods: []string{"GET"}})
	table := Compile([]*Rule{all, one, same, twin})
	if by := table.Shadowed(one, unlimited()); by != all {
		t.Errorf("one is shadowed by %q, want all", name(by))
	}
	if by := table.Shadowed(twin, unlimited()); by != same {
		t.Errorf("twin is shadowed by %q, want same", name(by))
	}
	if by := table.Shadowed(all, unlimited()); by != nil {
		t.Errorf("all is shadowed by %q", by.Name)
	}
}

func TestMatchAll(t *testing.T) {
	table := Compile([]*Rule{
		rule(t, &configv1.Route{Name: "get", Path: "/a", Method: "GET"}),
		rule(t, &configv1.Route{Name: "prefix", Path: "/*"}),
		rule(t, &configv1.Route{Name: "other", Path: "/b"}),
	})
	var names []string
	for _, r := range table.MatchAll(&Request{Path: "/a"}) {
		names = append(names, r.Name)
	}
	if !slices.Equal(names, []string{"get", "prefix"}) {
		t.Errorf("got %v", names)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	table := Compile(manyRules(t, 1000))
	q := &Request{Method: "GET", Host: "API.example.com:8080", Path: "/svc-7/v1/users/42"}
	var p Params
	if n := testing.AllocsPerRun(100, func() {
		if table.Match(q, &p) == nil {
			t.Fatal("no match")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func manyRules(t testing.TB, n int) []*Rule {
	rules := make([]*Rule, n)
	for i := range rules {
		path := fmt.Sprintf("/svc-%d/*", i)
		switch i % 3 {
		case 1:
			path = fmt.Sprintf("/svc-%d/v1/users/{id}", i)
		case 2:
			path = fmt.Sprintf("/svc-%d/v1/exact", i)
		}
		rules[i] = rule(t, &configv1.Route{Name: fmt.Sprint("r", i), Path: path, Hosts: []string{"api.example.com"}})
	}
	return rules
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 10_000, 100_000} {
		table := Compile(manyRules(b, n))
		i := (n - 1) / 3 * 3
		b.Run(fmt.Sprintf("prefix/%d", n), func(b *testing.B) {
			q := &Request{Method: "GET", Host: "api.example.com", Path: fmt.Sprintf("/svc-%d/v1/things/42", i)}
			var p Params
			b.ReportAllocs()
			for b.Loop() {
				if table.Match(q, &p) == nil {
					b.Fatal("no match")
				}
			}
		})
	}
}

func BenchmarkWith(b *testing.B) {
	rules := manyRules(b, 100_000)
	table := Compile(rules)
	b.Run("one of 100000", func(b *testing.B) {
		for b.Loop() {
			table.With(nil, rules[:1])
		}
	})
	b.Run("compile 100000", func(b *testing.B) {
		for b.Loop() {
			Compile(rules)
		}
	})
}

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{"/", "/*", "/a/{b}/*", "~/a+", "/a%2f", "/{", "~(?P<x>a)", "/a/", "//"} {
		f.Add(s, "/a/b")
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if strings.HasPrefix(pattern, "~") && len(pattern) > 200 || !strings.HasPrefix(path, "/") {
			return
		}
		r, errs := Parse(&configv1.Route{Id: "x", Name: "x", Path: pattern})
		if len(errs) > 0 {
			return
		}
		var p Params
		q := &Request{Path: path}
		if got := Compile([]*Rule{r}).Match(q, &p); (got != nil) != (scan([]*Rule{r}, q) != nil) {
			t.Fatalf("pattern %q, path %q: table says %v", pattern, path, got != nil)
		}
	})
}
