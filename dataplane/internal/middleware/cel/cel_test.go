package cel

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

func stepOf(t testing.TB, m *middlewarev1.Cel) *step {
	t.Helper()
	env := &pipeline.Environment{Name: "a", Metrics: new(telemetry.Sets).Of("gateway_cel_", "middleware", "a")}
	s, err := New(m, env)
	if err != nil {
		t.Fatal(err)
	}
	return s.(*step)
}

// request is an exchange with everything that expressions can look at.
func request() *exchange.Exchange {
	x := &exchange.Exchange{}
	r := &x.Request
	r.Method, r.Path, r.Host, r.RawQuery, r.ContentLength = "POST", "/orders/17", "shop.example:8443",
		"a=1&b=%C3%BC+&a=2&&c", 42
	for _, f := range [][2]string{
		{"X-Tenant", "acme"}, {"Accept", "text/html"}, {"accept", "*/*"}, {"Cookie", "a=1"}, {"Cookie", "b=2"},
		{"X-Empty", ""},
	} {
		r.Header.Add(f[0], f[1])
	}
	x.Scheme, x.ClientText, x.Client = "https", "192.0.2.7", netip.MustParseAddrPort("192.0.2.7:4711")
	x.Start = time.Date(2026, 11, 28, 13, 14, 15, 0, time.UTC)
	x.TLS = &exchange.TLS{Version: tls.VersionTLS13, ServerName: "shop.example", Certificate: &x509.Certificate{
		Subject: pkix.Name{CommonName: "ann"}, DNSNames: []string{"ann.example"},
	}}
	x.Principal = &exchange.Principal{
		Consumer: "ann", Groups: []string{"clerks", "eu"}, Scopes: []string{"orders:read"}, Scheme: "Bearer",
		Claims: map[string]any{
			"tenant": "acme", "level": 3.0, "roles": []any{"a", "b"}, "admin": true, "address": map[string]any{"country": "de"},
			"nothing": nil,
		},
	}
	return x
}

func TestExpressions(t *testing.T) {
	for _, c := range []struct {
		allow string
		want  string // "yes", "no" or "error"
	}{
		{`request.method == "POST"`, "yes"},
		{`request.method in ["GET", "HEAD"]`, "no"},
		{`request.path == "/orders/17" && request.path.startsWith("/orders/")`, "yes"},
		{`request.path.matches("^/orders/[0-9]+$")`, "yes"},
		{`request.host == "shop.example:8443" && request.scheme == "https"`, "yes"},
		{`request.size == 42 && request.size < 1000`, "yes"},
		{`request.headers["x-tenant"] == identity.claims.tenant`, "yes"},
		{`request.headers["X-Tenant"] == "acme"`, "yes"},
		{`request.headers["accept"] == "text/html, */*"`, "yes"},
		{`request.headers.cookie == "a=1; b=2"`, "yes"},
		{`request.headers["x-empty"] == ""`, "yes"},
		{`request.headers["x-missing"] == ""`, "error"},
		{`"x-missing" in request.headers`, "no"},
		{`has(request.headers.accept) && !has(request.headers.other)`, "yes"},
		{`request.headers.exists(name, name.startsWith("x-"))`, "yes"},
		{`request.headers.exists(name, name == "X-Tenant")`, "no"},
		{`size(request.headers) == 4`, "yes"},
		{`request.headers == {"accept": "text/html, */*", "cookie": "a=1; b=2", "x-tenant": "acme", "x-empty": ""}`, "yes"},
		{`request.query["a"] == "1,2" && request.query.b == "ü " && request.query.c == ""`, "yes"},
		{`"d" in request.query || size(request.query) != 3`, "no"},
		{`request.query.all(k, k in ["a", "b", "c"])`, "yes"},
		{`[1, 2, 3, 4, 5, 6].all(i, request.query["a"] == "1,2" && request.query.b == "ü " && !("d" in request.query))`, "yes"},
		{`identity.authenticated && identity.consumer == "ann" && identity.scheme == "Bearer"`, "yes"},
		{`"clerks" in identity.groups && !("x" in identity.groups)`, "yes"},
		{`identity.groups.exists(g, g.startsWith("e")) && identity.groups[1] == "eu" && size(identity.groups) == 2`, "yes"},
		{`identity.groups == ["clerks", "eu"] && identity.groups + ["x"] == ["clerks", "eu", "x"]`, "yes"},
		{`identity.scopes.all(s, s == "orders:read")`, "yes"},
		{`identity.claims.level > 2 && identity.claims.admin == true && identity.claims.address.country == "de"`, "yes"},
		{`"a" in identity.claims.roles && identity.claims.nothing == null`, "yes"},
		{`identity.claims.missing == "a"`, "error"},
		{`"missing" in identity.claims`, "no"},
		{`has(identity.claims.tenant)`, "yes"},
		{`identity.claims.tenant > 3`, "error"},
		{`client.address == "192.0.2.7" && client.port == 4711`, "yes"},
		{`cidr("192.0.2.0/24").containsIP(client.address)`, "yes"},
		{`client.tls.version == "TLSv1.3" && client.tls.server_name == "shop.example"`, "yes"},
		{`client.tls.subject == "CN=ann" && client.tls.san == "DNS:ann.example" && size(client.tls.fingerprint) == 64`,
			"yes"},
		{`client.tls.issuer == "" && client.tls.serial == ""`, "yes"},
		{`now == timestamp("2026-11-28T13:14:15Z") && now.getDayOfWeek() == 6`, "yes"},
		{`now.getHours("America/New_York") == 8`, "yes"},
		{`1 / (request.size - 42) == 1`, "error"},
		{`request.method == "POST" || identity.claims.missing == "a"`, "yes"}, // one that is true is enough
	} {
		x := request()
		s := stepOf(t, &middlewarev1.Cel{Allow: c.allow})
		v := valuesOf(x)
		passes, err := s.passes(v)
		v.release()
		got := map[bool]string{true: "yes", false: "no"}[passes]
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%s: %s, %v", c.allow, got, err)
		}
		if verdict := s.Request(x); (verdict == exchange.Continue) != (c.want == "yes") {
			t.Errorf("%s: %v", c.allow, verdict)
		}
		if c.want != "yes" && (x.Response.Status != 403 || x.Response.Code != fault.Forbidden) {
			t.Errorf("%s: %d %s", c.allow, x.Response.Status, x.Response.Code)
		}
	}
}

// TestStrangers evaluates expressions on requests of which little is known.
func TestStrangers(t *testing.T) {
	x := &exchange.Exchange{}
	for allow, want := range map[string]bool{
		`identity.authenticated`: false, `identity.consumer == "" && identity.scheme == ""`: true,
		`"a" in identity.groups`: false, `size(identity.scopes) == 0`: true, `"a" in identity.claims`: false,
		`identity.claims.a == "a"`: false, `client.tls.version == "" && client.tls.subject == ""`: true,
		`size(request.query) == 0 && size(request.headers) == 0`: true, `request.query["a"] == "a"`: false,
	} {
		if got := stepOf(t, &middlewarev1.Cel{Allow: allow}).Request(x) == exchange.Continue; got != want {
			t.Errorf("%s: %t", allow, got)
		}
	}
}

func TestAllowAndDeny(t *testing.T) {
	for _, c := range []struct {
		allow, deny string
		passes      bool
	}{
		{"true", "", true}, {"false", "", false}, {"", "false", true}, {"", "true", false}, {"true", "true", false},
		{"true", "false", true}, {"false", "false", false}, {"true", `identity.claims.x == 1`, false},
	} {
		x := &exchange.Exchange{}
		s := stepOf(t, &middlewarev1.Cel{Allow: c.allow, Deny: c.deny, Message: "not today"})
		if got := s.Request(x) == exchange.Continue; got != c.passes {
			t.Errorf("allow %s, deny %s: %t", c.allow, c.deny, got)
		}
		if !c.passes && x.Response.Message != "not today" {
			t.Errorf("told %q", x.Response.Message)
		}
	}
	if _, err := New(&middlewarev1.Cors{}, nil); err == nil {
		t.Error("took settings of another type")
	}
	env := &pipeline.Environment{Name: "a", Metrics: new(telemetry.Sets).Of("gateway_cel_", "middleware", "a")}
	if _, err := New(&middlewarev1.Cel{Deny: "1"}, env); err == nil || !strings.Contains(err.Error(),
		"deny: is of type int") {
		t.Errorf("%v", err)
	}
}

// TestBombs stops what costs too much while it runs: two loops over the fields of a request that has many.
func TestBombs(t *testing.T) {
	s := stepOf(t, &middlewarev1.Cel{Allow: `request.headers.all(a, request.headers.all(b, a != "x" && b != "x"))`})
	if !s.allow.Counted() {
		t.Fatal("it is not counted")
	}
	x := &exchange.Exchange{}
	fill := func(n int) {
		for i := x.Request.Header.Len(); i < n; i++ {
			x.Request.Header.Add(strings.Repeat("a", 1+i), "1")
		}
	}
	if fill(5); s.Request(x) != exchange.Continue {
		t.Fatal("a small one is refused")
	}
	fill(200)
	v := valuesOf(x)
	defer v.release()
	var cancelled interpreter.EvalCancelledError
	if passes, err := s.passes(v); passes || !errors.As(err,
		&cancelled) || cancelled.Cause != interpreter.CostLimitExceeded {
		t.Errorf("a large one passes: %t, %v", passes, err)
	}
	if s.Request(x) != exchange.Stop || x.Response.Status != 403 {
		t.Errorf("a large one is answered with %d", x.Response.Status)
	}
}

// TestLongQueries cost what is in proportion to their length, whatever they repeat and however often they are looked
// into.
func TestLongQueries(t *testing.T) {
	x := &exchange.Exchange{}
	x.Request.RawQuery = strings.Repeat("a&", 8000)
	for _, allow := range []string{`request.query["a"] != ""`, `request.query.all(k, k == "a")`} {
		s := stepOf(t, &middlewarev1.Cel{Allow: allow})
		if n := testing.AllocsPerRun(1, func() {
			if s.Request(x) != exchange.Continue {
				t.Errorf("%s: refused", allow)
			}
		}); n > 200 {
			t.Errorf("%s: %v allocations", allow, n)
		}
	}
	var b strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&b, "a%d=%d&", i, i)
	}
	x.Request.RawQuery = b.String()
	s := stepOf(t, &middlewarev1.Cel{Allow: `request.query.all(k, request.query[k] != "x")`})
	v := valuesOf(x)
	defer v.release()
	if passes, err := s.passes(v); !passes || err != nil || v.scans > maxScans {
		t.Errorf("%t, %v; the query was looked through %d times", passes, err, v.scans)
	}
}

// TestBoxed checks what boxed goes by.
func TestBoxed(t *testing.T) {
	text, number, moment := types.String("a"), types.Int(7), types.Timestamp{Time: time.Unix(7, 0)}
	if v, ok := boxed(&text).(types.String); !ok || v != "a" {
		t.Errorf("a text is %v", v)
	}
	if v, ok := boxed(&number).(types.Int); !ok || v != 7 {
		t.Errorf("a number is %v", v)
	}
	if v, ok := boxed(&moment).(types.Timestamp); !ok || !v.Time.Equal(moment.Time) {
		t.Errorf("a time is %v", v)
	}
	if n := testing.AllocsPerRun(100, func() { _ = boxed(&text) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

var measured = []struct{ name, allow string }{
	{"method and group", `request.method == "POST" && "clerks" in identity.groups`},
	{"path and header", `request.path.startsWith("/orders/") && request.headers["x-tenant"] == "acme"`},
	{"claim", `request.headers["x-tenant"] == identity.claims.tenant`},
	{"regex", `request.path.matches("^/orders/[0-9]+$")`},
	{"time", `now.getHours() >= 8`},
	{"loop", `identity.groups.exists(g, g.startsWith("e"))`},
	{"network", `cidr("192.0.2.0/24").containsIP(client.address)`},
	{"counted", loopsOverHeaders},
}

const loopsOverHeaders = `request.headers.all(a, request.headers.all(b, a != "x" && b != "x"))`

func BenchmarkExpressions(b *testing.B) {
	for _, m := range measured {
		b.Run(m.name, func(b *testing.B) {
			s, x := stepOf(b, &middlewarev1.Cel{Allow: m.allow}), request()
			b.ReportAllocs()
			for b.Loop() {
				if s.Request(x) != exchange.Continue {
					b.Fatal("refused")
				}
			}
		})
	}
}
