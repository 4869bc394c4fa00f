package cors

import (
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

func run(t *testing.T, s *middlewarev1.Cors, method, origin string, fields ...string) *exchange.Exchange {
	t.Helper()
	c, err := New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange.Exchange{}
	x.Request.Method = method
	if origin != "" {
		x.Request.Header.Add("Origin", origin)
	}
	for i := 0; i < len(fields); i += 2 {
		x.Request.Header.Add(fields[i], fields[i+1])
	}
	if c.Request(x) == exchange.Continue {
		x.Response.Status = 200
		x.Response.Header.Add("Vary", "Accept")
	}
	c.Response(x)
	return x
}

func TestOrigins(t *testing.T) {
	s := &middlewarev1.Cors{AllowOrigins: []string{"https://app.example.com", "https://*.example.org"}}
	for origin, ok := range map[string]bool{
		"https://app.example.com": true, "HTTPS://APP.example.com": true, "http://app.example.com": false, "https://app.example.com.evil.net": false,
		"https://a.example.org": true, "https://a.b.example.org": true, "https://example.org": false, "https://evil-example.org": false,
		"https://x.example.org.evil.net": false, "https://evil.net/.example.org": false, "null": false, "https://a.example.org:8443": false,
	} {
		got := run(t, s, "GET", origin).Response.Header.Get("Access-Control-Allow-Origin")
		if (got == origin) != ok || !ok && got != "" {
			t.Errorf("%s: got %q", origin, got)
		}
	}
}

func TestPrivateNetworks(t *testing.T) {
	const asks, allows = "Access-Control-Request-Private-Network", "Access-Control-Allow-Private-Network"
	for _, c := range []struct {
		name, origin, asked string
		allow               bool
		want                string
	}{
		{"asked for and allowed", "https://a.com", "true", true, "true"},
		{"not allowed", "https://a.com", "true", false, ""},
		{"another origin", "https://b.com", "true", true, ""},
		{"not asked for", "https://a.com", "", true, ""},
		{"another value", "https://a.com", "1", true, ""},
	} {
		s := &middlewarev1.Cors{AllowOrigins: []string{"https://a.com"}, AllowPrivateNetwork: c.allow}
		fields := []string{"Access-Control-Request-Method", "GET"}
		if c.asked != "" {
			fields = append(fields, asks, c.asked)
		}
		if got := run(t, s, "OPTIONS", c.origin, fields...).Response.Header.Get(allows); got != c.want {
			t.Errorf("%s: got %q", c.name, got)
		}
		if got := run(t, s, "GET", c.origin, asks, "true").Response.Header.Get(allows); got != "" {
			t.Errorf("%s: a response that is for no preflight has %q", c.name, got)
		}
	}
}

func TestPreflight(t *testing.T) {
	s := &middlewarev1.Cors{AllowOrigins: []string{"https://a.com"}, AllowMethods: []string{"PUT"}, AllowHeaders: []string{"X-A"}, MaxAge: "10m", AllowCredentials: true}
	h := &run(t, s, "OPTIONS", "https://a.com", "Access-Control-Request-Method", "PUT").Response
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": "https://a.com", "Access-Control-Allow-Methods": "PUT", "Access-Control-Allow-Headers": "X-A",
		"Access-Control-Max-Age": "600", "Access-Control-Allow-Credentials": "true", "Vary": "Origin",
	} {
		if got := h.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if h.Status != 204 {
		t.Errorf("status %d", h.Status)
	}
	if x := run(t, s, "OPTIONS", "https://b.com", "Access-Control-Request-Method", "PUT"); x.Response.Status != 204 || x.Response.Header.Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("a foreign preflight got %d and allowances", x.Response.Status)
	}
	if x := run(t, s, "OPTIONS", "https://a.com"); x.Response.Status != 200 {
		t.Error("an OPTIONS that is no preflight was answered")
	}
}

func TestAnyOrigin(t *testing.T) {
	x := run(t, &middlewarev1.Cors{AllowOrigins: []string{"*"}, ExposeHeaders: []string{"X-B"}}, "GET", "https://a.com")
	if x.Response.Header.Get("Access-Control-Allow-Origin") != "*" || x.Response.Header.Get("Access-Control-Expose-Headers") != "X-B" {
		t.Error("not marked")
	}
}
