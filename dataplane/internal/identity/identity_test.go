package identity

import (
	"slices"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/fault"
)

type settings struct {
	optional bool
	exclude  []string
}

func (s settings) GetOptional() bool         { return s.optional }
func (s settings) GetExcludePaths() []string { return s.exclude }

func guard(t *testing.T, name string, s settings, scheme, params string, strips ...string) *Guard {
	t.Helper()
	env := &pipeline.Environment{Name: name, Metrics: new(telemetry.Sets).Of("gateway_test_", "middleware", name)}
	g, err := New(s, env, scheme, params, strips...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func challenges(x *exchange.Exchange) []string {
	return slices.Collect(x.Response.Header.Values("WWW-Authenticate"))
}

func TestAbsent(t *testing.T) {
	var x exchange.Exchange
	x.Request.Header.Add("x-consumer", "forged")
	key := guard(t, "keys", settings{optional: true}, "ApiKey", "", "X-Consumer")
	if key.Absent(&x, fault.MissingAPIKey, "no key") != exchange.Continue {
		t.Fatal("an optional key was asked for")
	}
	if v, there := x.Request.Header.Lookup("X-Consumer"); there {
		t.Errorf("an anonymous client says of itself: %q", v)
	}
	token := guard(t, "tokens", settings{}, "Bearer", `realm="shop"`)
	if token.Absent(&x, fault.Unauthenticated, "no token") != exchange.Stop {
		t.Fatal("nothing was required")
	}
	if got := challenges(&x); x.Response.Status != 401 || !slices.Equal(got, []string{"ApiKey", `Bearer realm="shop"`}) {
		t.Errorf("%d %q", x.Response.Status, got)
	}
}

// TestWrong: wrong credentials are refused where none would do.
func TestWrong(t *testing.T) {
	var x exchange.Exchange
	g := guard(t, "tokens", settings{optional: true}, "Bearer", `realm="shop"`)
	if g.Wrong(&x, fault.InvalidToken, `it is "old"`) != exchange.Stop || x.Response.Code != fault.InvalidToken {
		t.Fatal("passed")
	}
	want := `Bearer realm="shop", error="invalid_token", error_description="it is ?old?"`
	if got := challenges(&x); !slices.Equal(got, []string{want}) {
		t.Errorf("%q", got)
	}
	x.Reset()
	guard(t, "tokens", settings{}, "Bearer", "").Wrong(&x, fault.InvalidToken, "no")
	if got := challenges(&x); !slices.Equal(got, []string{`Bearer error="invalid_token", error_description="no"`}) {
		t.Errorf("%q", got)
	}
}

func TestAnyOf(t *testing.T) {
	var x exchange.Exchange
	for _, name := range []string{"ApiKey", "Basic"} {
		guard(t, name, settings{optional: true}, name, "").Absent(&x, fault.Unauthenticated, "")
	}
	if Refuse(&x, "nobody is known") != exchange.Stop || x.Response.Code != fault.Unauthenticated {
		t.Fatal("passed")
	}
	if got := challenges(&x); !slices.Equal(got, []string{"ApiKey", "Basic"}) {
		t.Errorf("%q", got)
	}
}

func TestExcluded(t *testing.T) {
	var x exchange.Exchange
	g := guard(t, "keys", settings{exclude: []string{"/public/*"}}, "ApiKey", "", "X-Consumer")
	x.Request.Header.Add("X_Consumer", "forged")
	if x.Request.Path = "/private"; g.Excluded(&x) || x.Request.Header.Len() != 1 {
		t.Fatal("excluded")
	}
	if x.Request.Path = "/public/a"; !g.Excluded(&x) || x.Request.Header.Len() != 0 {
		t.Errorf("not excluded, or with %v", x.Request.Header.Fields())
	}
	for _, path := range []string{"/public/../private", "/public/..;/private", "/public/..%2Fprivate", "/public/%00"} {
		if x.Request.Path = path; g.Excluded(&x) { // which settings may keep, and services read as they like
			t.Errorf("%q is excluded", path)
		}
	}
	_, err := New(settings{exclude: []string{"public"}}, &pipeline.Environment{}, "", "")
	if err == nil || !strings.Contains(err.Error(), `exclude_paths[0]: "public"`) {
		t.Errorf("%v", err)
	}
}

// TestAbsentAfterAccepted: what one step has set of a client stays where another one finds nothing, and what it has not
// set is the client's own, and goes.
func TestAbsentAfterAccepted(t *testing.T) {
	var x exchange.Exchange
	x.Request.Header.Add("X-Consumer", "forged")
	x.Request.Header.Add("X-User", "forged")
	guard(t, "keys", settings{}, "ApiKey", "", "X-Consumer").Accept(&x, &exchange.Principal{Consumer: "shop"})
	x.Request.Header.Set("X-Consumer", "shop")
	for _, s := range []settings{{optional: true}, {exclude: []string{"/*"}}} {
		g := guard(t, "passwords", s, "Basic", "", "X-Consumer", "X-User")
		if x.Request.Path = "/a"; !g.Excluded(&x) {
			g.Absent(&x, fault.Unauthenticated, "")
		}
		if got := x.Request.Header.Get("X-Consumer"); got != "shop" || x.Request.Header.Len() != 1 {
			t.Errorf("%+v: %v", s, x.Request.Header.Fields())
		}
	}
}

func TestAllOf(t *testing.T) {
	var x exchange.Exchange
	certificate := &exchange.Principal{Consumer: "shop", Groups: []string{"eu"}, Claims: map[string]any{"a": 1, "b": 1}}
	token := &exchange.Principal{Groups: []string{"eu", "vip"}, Scopes: []string{"read"}, Claims: map[string]any{"b": 2},
		Scheme: "Bearer"}
	g := guard(t, "both", settings{}, "Bearer", "")
	if g.Accept(&x, certificate) != exchange.Continue || x.Principal != certificate {
		t.Fatal("refused, or copied")
	}
	if g.Accept(&x, token) != exchange.Continue {
		t.Fatal("refused")
	}
	p := x.Principal
	if p.Consumer != "shop" || !slices.Equal(p.Groups, []string{"eu", "vip"}) ||
		!slices.Equal(p.Scopes, []string{"read"}) || p.Claims["a"] != 1 || p.Claims["b"] != 2 || p.Scheme != "Bearer" {
		t.Errorf("%+v", p)
	}
	if len(certificate.Groups) != 1 || certificate.Claims["b"] != 1 {
		t.Error("a principal that many share was changed")
	}
	if g.Accept(&x, &exchange.Principal{Consumer: "other"}) != exchange.Stop || x.Response.Code != fault.Forbidden ||
		x.Response.Status != 403 || x.Principal != p {
		t.Errorf("two consumers passed as %+v", x.Principal)
	}
}

func TestAcceptDoesNotAllocate(t *testing.T) {
	var x exchange.Exchange
	g := guard(t, "keys", settings{exclude: []string{"/public/*"}}, "ApiKey", "")
	p := &exchange.Principal{Consumer: "shop"}
	x.Request.Path = "/private"
	if n := testing.AllocsPerRun(100, func() {
		x.Principal = nil
		if g.Excluded(&x) || g.Accept(&x, p) != exchange.Continue {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
