package rbac

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

type (
	ruleOf = middlewarev1.RbacRule
	who    = exchange.Principal
)

func stepOf(t testing.TB, s *middlewarev1.Rbac) pipeline.Step {
	t.Helper()
	env := &pipeline.Environment{Name: "rules", Metrics: new(telemetry.Sets).Of("gateway_rbac_", "middleware", "rules")}
	step, err := New(s, env)
	if err != nil {
		t.Fatal(err)
	}
	return step
}

func TestRules(t *testing.T) {
	ann := &who{Consumer: "ann", Groups: []string{"staff", "team-blue"}, Scopes: []string{"orders:read", "profile"}}
	token := &who{Scopes: []string{"orders:read", "orders:write"}, Scheme: "bearer"}
	bare := &who{}
	for _, c := range []struct {
		name      string
		rules     []*ruleOf
		principal *who
		request   string // method and path
		status    int    // 0: it passes
	}{
		{"a group", []*ruleOf{{Groups: []string{"admins", "staff"}}}, ann, "GET /", 0},
		{"no group", []*ruleOf{{Groups: []string{"admins"}}}, ann, "GET /", 403},
		{"nobody where a group is needed", []*ruleOf{{Groups: []string{"admins"}}}, nil, "GET /", 401},
		{"a group by its beginning", []*ruleOf{{Groups: []string{"team-*"}}}, ann, "GET /", 0},
		{"no group by its beginning", []*ruleOf{{Groups: []string{"teams-*"}}}, ann, "GET /", 403},
		{"whoever is authenticated", []*ruleOf{{Groups: []string{"*"}}}, bare, "GET /", 0},
		{"whoever is authenticated, and nobody", []*ruleOf{{Groups: []string{"*"}}}, nil, "GET /", 401},
		{"a consumer", []*ruleOf{{Consumers: []string{"ann"}}}, ann, "GET /", 0},
		{"another consumer", []*ruleOf{{Consumers: []string{"bob"}}}, ann, "GET /", 403},
		{"any consumer", []*ruleOf{{Consumers: []string{"*"}}}, ann, "GET /", 0},
		{"any consumer, and one that is none", []*ruleOf{{Consumers: []string{"*"}}}, bare, "GET /", 403},
		{"a scope", []*ruleOf{{Scopes: []string{"orders:read"}}}, ann, "GET /", 0},
		{"all scopes", []*ruleOf{{Scopes: []string{"orders:read", "profile"}}}, ann, "GET /", 0},
		{"one of two scopes", []*ruleOf{{Scopes: []string{"orders:read", "orders:write"}}}, ann, "GET /", 403},
		{"a scope by its beginning", []*ruleOf{{Scopes: []string{"orders:*"}}}, ann, "GET /", 0},
		{"any scope, and none", []*ruleOf{{Scopes: []string{"*"}}}, bare, "GET /", 403},
		{"a group and a scope", []*ruleOf{{Groups: []string{"staff"}, Scopes: []string{"profile"}}}, ann, "GET /", 0},
		{"a group without the scope", []*ruleOf{{Groups: []string{"staff"}, Scopes: []string{"x"}}}, ann, "GET /", 403},
		{"a scope without the group", []*ruleOf{{Groups: []string{"x"}, Scopes: []string{"profile"}}}, ann, "GET /", 403},

		{"a method", []*ruleOf{{Methods: []string{"GET", "POST"}}}, nil, "POST /", 0},
		{"another method", []*ruleOf{{Methods: []string{"GET", "POST"}}}, nil, "PUT /", 403},
		{"a method in other letters", []*ruleOf{{Methods: []string{"GET"}}}, nil, "get /", 403},
		{"any method", []*ruleOf{{Methods: []string{"*"}}}, nil, "BREW /", 0},
		{"HEAD where GET is allowed", []*ruleOf{{Methods: []string{"GET"}}}, nil, "HEAD /", 403},
		{"HEAD where GET is denied", []*ruleOf{{Methods: []string{"GET"}, Effect: "deny"}}, nil, "HEAD /", 403},
		{"HEAD where POST is denied", []*ruleOf{{Methods: []string{"POST"}, Effect: "deny"}}, nil, "HEAD /", 0},
		{"a path", []*ruleOf{{Paths: []string{"/a", "/b/*"}}}, nil, "GET /b/c", 0},
		{"another path", []*ruleOf{{Paths: []string{"/a", "/b/*"}}}, nil, "GET /a/c", 403},
		{"a path with a parameter", []*ruleOf{{Paths: []string{"/a/{id}/c"}}}, nil, "GET /a/7/c", 0},

		{"a path that nobody may", []*ruleOf{{Groups: []string{"x"}, Paths: []string{"/a"}}}, nil, "GET /b", 403},
		{"a path that others may", []*ruleOf{{Groups: []string{"x"}, Paths: []string{"/a"}}}, nil, "GET /a", 401},
		{"a method that others may not", []*ruleOf{{Groups: []string{"x"}, Methods: []string{"GET"}}}, nil, "PUT /a", 403},
		{"nobody where all are denied", []*ruleOf{
			{Groups: []string{"x"}}, {Paths: []string{"/a"}, Effect: "deny"},
		}, nil, "GET /a", 403},

		{"deny wins", []*ruleOf{{}, {Groups: []string{"staff"}, Effect: "deny"}}, ann, "GET /", 403},
		{"deny wins, whatever the order", []*ruleOf{{Groups: []string{"staff"}, Effect: "deny"}, {}}, ann, "GET /", 403},
		{"deny of others", []*ruleOf{{Groups: []string{"x"}, Effect: "deny"}}, ann, "GET /", 0},
		{"deny of others, and nobody", []*ruleOf{{Groups: []string{"x"}, Effect: "deny"}}, nil, "GET /", 0},
		{"deny by one of two scopes", []*ruleOf{{Scopes: []string{"x", "profile"}, Effect: "deny"}}, ann, "GET /", 403},
		{"deny by no scope", []*ruleOf{{Scopes: []string{"x"}, Effect: "deny"}}, ann, "GET /", 0},
		{"deny of a path", []*ruleOf{{Paths: []string{"/a/*"}, Effect: "deny"}}, ann, "GET /a/b", 403},
		{"deny of another path", []*ruleOf{{Paths: []string{"/a/*"}, Effect: "deny"}}, ann, "GET /b", 0},
		{"a token without a scope", []*ruleOf{
			{Scopes: []string{"admin:*", "x", "y"}}, {Scopes: []string{"z"}},
		}, token, "GET /", 403},
	} {
		x := &exchange.Exchange{}
		x.Request.Method, x.Request.Path, _ = strings.Cut(c.request, " ")
		x.Principal = c.principal
		x.Put(exchange.Fact{}) // what the step puts has its place
		s := stepOf(t, &middlewarev1.Rbac{Rules: c.rules})
		passes := s.Request(x) == exchange.Continue
		if passes != (c.status == 0) || x.Response.Status != c.status {
			t.Errorf("%s: passes %t, %d", c.name, passes, x.Response.Status)
		}
		want := map[int]fault.Code{403: fault.Forbidden, 401: fault.Unauthenticated}[c.status]
		if x.Response.Code != want {
			t.Errorf("%s: %s", c.name, x.Response.Code)
		}
		var challenges []string
		if c.principal == token && c.status == 403 {
			challenges = []string{`Bearer error="insufficient_scope", scope="x y"`}
		}
		if got := slices.Collect(x.Response.Header.Values("WWW-Authenticate")); !slices.Equal(got, challenges) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	if _, err := New(&middlewarev1.Cors{}, nil); err == nil {
		t.Error("took settings of another type")
	}
}

// TestManyRules has as many rules as there can be, of which each is about one path and one group.
func TestManyRules(t *testing.T) {
	const n = 1000
	m := &middlewarev1.Rbac{}
	for i := range n {
		m.Rules = append(m.Rules, &ruleOf{Groups: []string{fmt.Sprint("g", i)}, Paths: []string{fmt.Sprintf("/p%d/*", i)}})
	}
	s := stepOf(t, m)
	for _, c := range []struct {
		group, path int
		passes      bool
	}{{0, 0, true}, {63, 63, true}, {64, 64, true}, {999, 999, true}, {999, 998, false}, {64, 0, false}} {
		x := &exchange.Exchange{}
		x.Request.Method, x.Request.Path = "GET", fmt.Sprintf("/p%d/a", c.path)
		x.Principal = &who{Groups: []string{fmt.Sprint("g", c.group)}}
		if got := s.Request(x) == exchange.Continue; got != c.passes {
			t.Errorf("group %d at path %d: %t", c.group, c.path, got)
		}
	}
}

// TestRefusedBy counts by rules, and says on the exchange which of them it was.
func TestRefusedBy(t *testing.T) {
	all := new(telemetry.Sets)
	s, err := New(&middlewarev1.Rbac{Rules: []*ruleOf{
		{Name: "staff", Groups: []string{"staff"}}, {Paths: []string{"/secret"}, Effect: "deny"},
	}}, &pipeline.Environment{Name: "rules", Metrics: all.Of("gateway_rbac_", "middleware", "rules")})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		group, path, rule string
	}{{"staff", "/secret", "rules[1]"}, {"staff", "/a", ""}, {"others", "/a", ""}, {"", "/a", ""}} {
		x := &exchange.Exchange{}
		x.Request.Path = c.path
		if c.group != "" {
			x.Principal = &who{Groups: []string{c.group}}
		}
		s.Request(x)
		if f, _ := x.Fact("rbac_rule"); c.rule != "" && f.Text() != c.rule || c.rule == "" && f.Name != "" {
			t.Errorf("%s at %s: by %q", c.group, c.path, f.Text())
		}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(all)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	var got []string
	for _, m := range families[0].GetMetric() {
		if n := m.GetCounter().GetValue(); n > 0 {
			got = append(got, fmt.Sprint(m.GetLabel()[1].GetValue(), " ", m.GetLabel()[2].GetValue(), " ", n))
		}
	}
	slices.Sort(got)
	want := []string{"denied default 1", "denied rules[1] 1", "allowed staff 1", "unauthenticated default 1"}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestRulesDoNotAllocate(t *testing.T) {
	s := stepOf(t, settingsOfABenchmark())
	x := exchangeOfABenchmark()
	if n := testing.AllocsPerRun(100, func() {
		if s.Request(x) != exchange.Continue {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func settingsOfABenchmark() *middlewarev1.Rbac {
	m := &middlewarev1.Rbac{Rules: []*ruleOf{{Groups: []string{"suspended"}, Effect: "deny"}}}
	for i := range 9 {
		m.Rules = append(m.Rules, &ruleOf{
			Groups: []string{fmt.Sprint("group-", i), "admins"}, Methods: []string{"GET", "POST"},
			Paths: []string{fmt.Sprintf("/api/v1/part%d/*", i), fmt.Sprintf("/api/v1/{any}/part%d", i)},
		})
	}
	m.Rules[5].Scopes = []string{"orders:read"}
	return m
}

func exchangeOfABenchmark() *exchange.Exchange {
	x := &exchange.Exchange{}
	x.Request.Method, x.Request.Path = "GET", "/api/v1/part4/orders/17"
	x.Principal = &who{Consumer: "ann", Groups: []string{"a", "group-4"}, Scopes: []string{"profile", "orders:read"}}
	return x
}

// BenchmarkRules is of ten rules, a principal in two groups, and a path of five segments.
func BenchmarkRules(b *testing.B) {
	s, x := stepOf(b, settingsOfABenchmark()), exchangeOfABenchmark()
	b.ReportAllocs()
	for b.Loop() {
		if s.Request(x) != exchange.Continue {
			b.Fatal("refused")
		}
	}
}
