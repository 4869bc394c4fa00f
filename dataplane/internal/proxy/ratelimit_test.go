package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gateway.internal/shared/waittest"
)

// limited is a configuration whose route and service have limits.
func limited(address, route, service string) string {
	c := to(address, ", rate_limits: ["+service+"]")
	c = strings.Replace(c, "{name: all, path: /*, service_id: s}", "{name: all, path: /*, service_id: s, policy_id: r}", 1)
	return strings.Replace(c, "policies: [", "policies: [{name: r, rate_limits: ["+route+"]}, ", 1)
}

// fetch sends a request with fields, such as "X-Tenant: a", and returns the response, whose body is read.
func (g *gateway) fetch(c *http.Client, path string, fields ...string) (*http.Response, string) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), "GET", "http://"+g.address+path, http.NoBody)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	res, err := c.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res, string(body)
}

// TestRateLimits decides all limits of a request together, and says what is left.
func TestRateLimits(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer service.Close()
	const perTenant = `{name: tenant, algorithm: fixed_window, window: 744h, limit: 3, key: ["header:X-Tenant"]}`
	const all = `{name: all, algorithm: fixed_window, window: 744h, limit: 5, key: [service]}`
	g := start(t, limited(service.Listener.Addr().String(), perTenant, all))
	c := g.clientOf("http/1.1")
	want := func(tenant string, status int, left string) {
		t.Helper()
		res, body := g.fetch(c, "/a", "X-Tenant: "+tenant)
		if res.StatusCode != status {
			t.Errorf("%s: %d %s, want %d", tenant, res.StatusCode, body, status)
		}
		if got := res.Header.Get("RateLimit"); !strings.HasPrefix(strings.ReplaceAll(got, ", ", ";"), left) {
			t.Errorf("%s: RateLimit is %s, want %s", tenant, got, left)
		}
		if got := res.Header.Get("RateLimit-Policy"); got != `"all";q=5;w=2678400, "tenant";q=3;w=2678400` {
			t.Errorf("RateLimit-Policy is %s", got)
		}
		if (res.Header.Get("Retry-After") != "") != (status == 429) {
			t.Errorf("%d with Retry-After %q", status, res.Header.Get("Retry-After"))
		}
		if status == 429 && !strings.Contains(body, `"code":"RATE_LIMIT_EXCEEDED"`) {
			t.Error(body)
		}
	}
	want("a", 200, `"all";r=4;t=`)
	want("a", 200, `"all";r=3;t=`)
	want("a", 200, `"all";r=2;t=`)
	for range 5 {
		want("a", 429, `"all";r=2;t=`) // and takes nothing of what all share
	}
	want("b", 200, `"all";r=1;t=`)
	want("b", 200, `"all";r=0;t=`)
	want("c", 429, `"all";r=0;t=`)
	if n := g.counted("gateway_rate_limited_total", "limit", "tenant", "policy", "r", "dry_run", "false"); n != 5 {
		t.Errorf("%v requests were refused by tenant", n)
	}

	// The route's limit takes the place of the service's of its name, and a changed one keeps what was counted.
	g.apply(limited(service.Listener.Addr().String(), strings.Replace(perTenant, "limit: 3", "limit: 4", 1)+", "+
		strings.Replace(all, "limit: 5", "limit: 100", 1), all))
	if res, _ := g.fetch(c, "/a", "X-Tenant: a"); res.StatusCode != 200 {
		t.Error(res.StatusCode)
	}
	if res, _ := g.fetch(c, "/a", "X-Tenant: a"); res.StatusCode != 429 {
		t.Error(res.StatusCode)
	}
}

// TestConcurrencyLimit counts what is under way, whatever ends it.
func TestConcurrencyLimit(t *testing.T) {
	s := &failingService{arrived: make(chan struct{}), held: make(chan struct{})}
	g := start(t, limited(startFailing(t, s), `{name: under-way, algorithm: concurrency, limit: 1}`,
		`{name: plenty, limit: 1000000, headers: false}`))
	c := g.clientOf("http/1.1")
	for i := range 3 {
		done := make(chan int)
		go func() {
			res, _ := g.fetch(c, "/a")
			done <- res.StatusCode
		}()
		<-s.arrived
		res, _ := g.fetch(c, "/a")
		if res.StatusCode != 429 || res.Header.Get("Retry-After") != "1" ||
			res.Header.Get("RateLimit") != `"under-way";r=0` ||
			res.Header.Get("RateLimit-Policy") != `"under-way";q=1;qu="concurrent-requests"` {
			t.Errorf("%d %v", res.StatusCode, res.Header)
		}
		s.held <- struct{}{}
		if status := <-done; status != 200 {
			t.Error(status)
		}
		waittest.Until(t, "the end of the exchange", func() bool { return strings.Count(g.logged(), "\n") == 2*i+2 })
	}
}

// TestRateLimitMiddleware gives back what it has taken where a later limit refuses the request.
func TestRateLimitMiddleware(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer service.Close()
	g := start(t, limited(service.Listener.Addr().String(), `
		{name: r, algorithm: fixed_window, window: 744h, limit: 1, key: ["header:X"]},
		{name: trial, limit: 1, window: 744h, dry_run: true}`, "")+`
middleware:
  - {name: first, type: rate_limit, order: 1, config: {algorithm: fixed_window, window: 744h, limit: 3}}
pipelines:
  - {name: front, global: true, middleware_ids: [first]}
`)
	c := g.clientOf("http/1.1")
	for i, step := range []struct {
		x      string
		status int
	}{{"a", 200}, {"a", 429}, {"a", 429}, {"a", 429}, {"b", 200}, {"c", 200}, {"d", 429}} {
		res, _ := g.fetch(c, "/a", "X: "+step.x)
		if res.StatusCode != step.status {
			t.Errorf("%d: %d", i, res.StatusCode)
		}
		if step.status == 200 && res.Header.Values("RateLimit-Policy")[1] != `"first";q=3;w=2678400` {
			t.Error(res.Header)
		}
		waittest.Until(t, "the end of the exchange", func() bool { return strings.Count(g.logged(), "\n") == i+1 })
	}
	if n := g.counted("gateway_rate_limited_total", "policy", "r", "limit", "trial", "dry_run", "true"); n != 2 {
		t.Errorf("%v would have been refused", n)
	}
}

// TestLimitsOfWhatComesToNothing: a request that no service could be asked about takes nothing, of limits of policies
// and of middleware, and one that a service was asked about takes from both, whatever came of it.
func TestLimitsOfWhatComesToNothing(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	defer service.Close()
	const limit = `{name: r, algorithm: fixed_window, window: 744h, limit: 2}`
	const front = `
middleware:
  - {name: first, type: rate_limit, order: 1, config: {algorithm: fixed_window, window: 744h, limit: 3}}
pipelines:
  - {name: front, global: true, middleware_ids: [first]}
`
	without := strings.Replace(limited("127.0.0.1:1", limit, ""), "{host: 127.0.0.1, port: 1}", "", 1)
	for name, c := range map[string]struct {
		config string
		want   []int
	}{
		"none is there":  {without, []int{503, 503, 503, 503}},
		"one that fails": {limited(service.Listener.Addr().String(), limit, ""), []int{503, 503, 429, 429}},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, c.config+front)
			client := g.clientOf("http/1.1")
			for i, want := range c.want {
				if res, body := g.fetch(client, "/a"); res.StatusCode != want {
					t.Errorf("request %d: %d %s, want %d", i, res.StatusCode, body, want)
				}
				waittest.Until(t, "the end of the exchange", func() bool { return strings.Count(g.logged(), "\n") == i+1 })
			}
		})
	}
}
