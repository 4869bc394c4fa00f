package proxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"gateway.internal/shared/waittest"
)

// TestExtAuthThatNobodyWaitsFor counts a question that another step's refusal, or the client's leave, has ended for
// neither the service's error nor its decision.
func TestExtAuthThatNobodyWaitsFor(t *testing.T) {
	lookOften(t)
	a := newAuthorizer(t)
	config := func(middleware string) string {
		c := strings.Replace(asking(seen(t), a.address, ", timeout: 1m"), "middleware: [", "middleware: ["+middleware, 1)
		return strings.Replace(c, "middleware_ids: [auth]", "parallel: true, middleware_ids: [auth, other]", 1)
	}
	results := func(g *gateway, want map[string]float64) {
		t.Helper()
		for result, n := range want {
			if got := g.counted("gateway_ext_auth_decisions_total", "middleware", "auth", "result", result); got != n {
				t.Errorf("%s: %v", result, got)
			}
		}
	}
	t.Run("another step refuses", func(t *testing.T) {
		g := start(t, config("{name: other, type: ip_restriction, order: 1, config: {deny: [127.0.0.1]}}, "))
		res := g.raw("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: slow\r\n\r\n", "GET")[0]
		if text := body(t, res); res.StatusCode != 403 {
			t.Errorf("%d %s", res.StatusCode, text)
		}
		results(g, map[string]float64{"cancelled": 1, "error": 0, "denied": 0, "allowed": 0})
	})
	t.Run("the client leaves", func(t *testing.T) {
		g := start(t, config("{name: other, type: ip_restriction, order: 1, config: {deny: [192.0.2.1]}}, "))
		conn, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		for len(a.begun) > 0 {
			<-a.begun // of the test before
		}
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: slow\r\n\r\n")
		waittest.Receive(t, "the question", a.begun)
		_ = conn.Close()
		waittest.Until(t, "it is counted", func() bool { return g.counted("gateway_ext_auth_decisions_total") == 1 })
		results(g, map[string]float64{"cancelled": 1, "error": 0, "denied": 0, "allowed": 0})
	})
}

// TestKeptAnswersOutliveChanges keeps answers through changes of the configuration that have nothing to do with them.
func TestKeptAnswersOutliveChanges(t *testing.T) {
	a, service := newAuthorizer(t), seen(t)
	const kept = ", cache: {ttl: 1h, key: [authorization]}"
	g := start(t, asking(service, a.address, kept))
	for _, c := range []struct {
		name, config string
		asked        int64
	}{
		{"the first time", "", 1},
		{"with another route", asking(service, a.address, kept) + "routes: [{name: more, path: /more, service_id: s}]\n", 1},
		{"with a middleware more", strings.NewReplacer(
			"middleware: [", "middleware: [{name: compress, type: compress, order: 1}, ",
			"middleware_ids: [auth]", "middleware_ids: [auth, compress]",
		).Replace(asking(service, a.address, kept)), 1},
		{"with another time limit", asking(service, a.address, kept+", timeout: 5s"), 1},
		{"with another path", asking(service, a.address, kept+", path: /check"), 2},
		{"without a cache", asking(service, a.address, ""), 3},
	} {
		if c.config != "" {
			g.apply(strings.Replace(c.config, "routes: [{name: more", "---\nroutes: [{name: more", 1))
		}
		res := g.raw("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: good\r\n\r\n", "GET")[0]
		if text := body(t, res); res.StatusCode != 200 || a.asked.Load() != c.asked {
			t.Errorf("%s: %d %s, asked %d times, want %d", c.name, res.StatusCode, text, a.asked.Load(), c.asked)
		}
	}
	if n := g.counted("gateway_ext_auth_decisions_total", "result", "allowed"); n != 6 {
		t.Errorf("counted over all changes are %v of 6 decisions", n)
	}
}

// TestFactsOfExtAuth shows later middleware, and the access log, what the service that decides has said.
func TestFactsOfExtAuth(t *testing.T) {
	a, service := newAuthorizer(t), seen(t)
	for _, c := range []struct{ name, settings string }{
		{"asked", ""},
		{"kept", ", cache: {ttl: 1h, key: [authorization]}"},
		{"in parallel", ", response_headers: [X-Role]"},
	} {
		for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(c.name+" "+version, func(t *testing.T) {
				if version == "HTTP/2" {
					once(t)
				}
				config := asking(service, a.address, ", principal: {consumer: X-User}, "+
					"facts: {tenant: X-User, groups: x-groups, none: X-None}"+c.settings)
				const stamp = "{name: stamp, type: headers, order: 1, config: {request: {set: " +
					`{X-User: "${fact.tenant} of ${fact.groups}", X-Role: "${fact.none}"}}}}, `
				config = strings.Replace(config, "middleware: [", "middleware: ["+stamp, 1)
				if c.name == "in parallel" {
					const other = "pipelines: [{name: stamp, global: true, middleware_ids: [stamp]}, " +
						"{name: first, parallel: true, "
					config = strings.NewReplacer(
						"pipelines: [{name: auth, ", other, "middleware_ids: [auth]", "middleware_ids: [auth, more]",
						"middleware: [", "middleware: ["+
							"{name: more, type: ip_restriction, order: 1, config: {deny: [192.0.2.1]}}, ",
						"name: stamp, type: headers, order: 1", "name: stamp, type: headers, order: 2",
					).Replace(config)
				} else {
					config = strings.Replace(config, "middleware_ids: [auth]", "middleware_ids: [auth, stamp]", 1)
				}
				g := start(t, config)
				for range 2 {
					req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+g.address+"/", nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Authorization", "good")
					req.Header.Set("X-Role", "admin")
					res, err := clientOf(t, version).Do(req)
					if err != nil {
						t.Fatal(err)
					}
					if text := body(t, res); text != "X-User=ann of staff, admins;X-Role=;" {
						t.Errorf("the service saw %s", text)
					}
					_ = res.Body.Close()
				}
				const logged = `"consumer":"ann","facts":{"groups":"staff, admins","tenant":"ann"}`
				waittest.Until(t, "both are logged", func() bool {
					return strings.Count(strings.Join(g.requests(), "\n"), logged) == 2
				})
			})
		}
	}
}
