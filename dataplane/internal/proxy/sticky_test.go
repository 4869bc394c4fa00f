package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// serviceNamed starts a service that answers with its name.
func serviceNamed(t *testing.T, name string) (service string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, name)
	}))
	t.Cleanup(s.Close)
	host, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return fmt.Sprintf("{name: %s, endpoints: [{host: %s, port: %s}]}", name, host, port)
}

// getAs sends a GET with fields, names and values in turn, and returns the response with its body.
func (g *gateway) getAs(c *http.Client, path string, fields ...string) (*http.Response, string) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, "http://"+g.address+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	return res, body(g.t, res)
}

// TestStickyCookie follows clients: each stays with the backend that it first got, until a weight changes that.
func TestStickyCookie(t *testing.T) {
	services := "services: [" + serviceNamed(t, "v1") + ", " + serviceNamed(t, "v2") + "]\n"
	weighing := func(v1, v2 int) string {
		return services + fmt.Sprintf(`routes: [{name: r, path: /*,
  backends: [{service_id: v1, weight: %d}, {service_id: v2, weight: %d}],
  sticky: {cookie: {name: backend, ttl: 1h}}}]`, v1, v2)
	}
	g := start(t, weighing(50, 50))
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		client := clientOf(t, version)
		g.apply(weighing(50, 50))
		cookies, first := map[string]string{}, map[string]int{}
		for range 40 {
			res, service := g.getAs(client, "/")
			set := res.Header.Get("Set-Cookie")
			cookie, attributes, _ := strings.Cut(set, "; ")
			if attributes != "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax" {
				t.Fatalf("%s: Set-Cookie: %s", version, set)
			}
			cookies[cookie] = service
			first[service]++
		}
		if len(cookies) != 40 || first["v1"] == 0 || first["v2"] == 0 {
			t.Errorf("%s: %d clients are told apart, and led to %v", version, len(cookies), first)
		}
		check := func(when string, want func(first string) string) {
			for cookie, service := range cookies {
				res, got := g.getAs(client, "/", "Cookie", "a=b", "Cookie", cookie)
				if res.Header.Get("Set-Cookie") != "" {
					t.Errorf("%s, %s: it is told to a client that is known", version, when)
				}
				if w := want(service); w != "" && got != w {
					t.Errorf("%s, %s: the client of %s is led to %s", version, when, service, got)
				}
			}
		}
		check("at the same weights", func(first string) string { return first })
		g.apply(weighing(0, 50))
		check("without weight", func(string) string { return "v2" })
		g.apply(weighing(50, 25))
		check("with less of v2", func(first string) string { return map[string]string{"v1": "v1"}[first] })
	}
}

// TestCookiesAreOfOneClient looks at what shared caches are told of responses with which clients get a cookie.
func TestCookiesAreOfOneClient(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if says := r.Header.Get("X-Says"); says != "" {
			w.Header().Set("Cache-Control", says)
		}
	}))
	t.Cleanup(s.Close)
	host, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	g := start(t, fmt.Sprintf(`
services:
  - {name: v1, endpoints: [{host: %s, port: %s}]}
  - {name: v2, endpoints: [{host: %[1]s, port: %[2]s}]}
  - name: hashed
    endpoints: [{host: %[1]s, port: %[2]s}]
    load_balancer_type: consistent_hash
    load_balancer_config: {hash_key: {cookie: {name: k}}}
routes:
  - {name: sticky, path: /sticky, backends: [{service_id: v1}, {service_id: v2}], sticky: {cookie: {name: k}}}
  - {name: hashed, path: /hashed, service_id: hashed}
`, host, port))
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		client := clientOf(t, version)
		for _, path := range []string{"/sticky", "/hashed"} {
			for _, c := range []struct{ says, cookie, want string }{
				{"public, max-age=60", "", "public, max-age=60|private"},
				{"", "", "private"},
				{"max-age=60, Private", "", "max-age=60, Private"},
				{"no-store", "", "no-store"},
				{`private="x-a", s-maxage=5`, "", `private="x-a", s-maxage=5|private`},
				{"public, max-age=60", "k=1", "public, max-age=60"},
			} {
				res, _ := g.getAs(client, path, "X-Says", c.says, "Cookie", c.cookie)
				got := strings.Join(res.Header.Values("Cache-Control"), "|")
				if cookie := res.Header.Get("Set-Cookie"); got != c.want || (cookie == "") != (c.cookie != "") {
					t.Errorf("%s: %s of %q with the cookie %q: Cache-Control %q, want %q; Set-Cookie %q",
						version, path, c.says, c.cookie, got, c.want, cookie)
				}
			}
		}
	}
}

// TestCanaries sends requests that a condition leads to a backend: by a field, a cookie, and the consumer and its
// groups, which a step of the global pipeline finds out.
func TestCanaries(t *testing.T) {
	a := newAuthorizer(t)
	host, port, _ := net.SplitHostPort(a.address)
	g := start(t, "services: ["+serviceNamed(t, "v1")+", "+serviceNamed(t, "v2")+", "+serviceNamed(t, "v3")+
		fmt.Sprintf(", {name: authorizer, endpoints: [{host: %s, port: %s}]}]\n", host, port)+`
middleware:
  - name: auth
    type: ext_auth
    order: 2
    config: {service_id: authorizer, on_error: allow, principal: {consumer: X-User, groups: X-Groups}}
  - {name: global, type: headers, order: 1, config: {response: {add: {X-Step: global}}}}
  - {name: own, type: headers, config: {response: {add: {X-Step: "${service} for ${consumer}"}}}}
pipelines:
  - {name: auth, global: true, middleware_ids: [global, auth]}
  - {name: own, middleware_ids: [own]}
policies: [{name: short, max_request_bytes: 10}]
routes:
  - name: by-head
    path: /head
    backends:
      - service_id: v1
      - {service_id: v2, match: {headers: [{name: X-Canary, exact: "1"}], cookies: [{name: beta, exact: "1"}]}}
  - name: by-group
    path: /group
    pipeline_id: own
    policy_id: short
    backends:
      - service_id: v1
      - {service_id: v2, match: {groups: [admins]}}
      - {service_id: v3, match: {consumers: [bob]}}
  - {name: by-consumer, path: /consumer, backends: [{service_id: v1}, {service_id: v2}], sticky: {consumer: true}}
`)
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		client := clientOf(t, version)
		for _, c := range []struct {
			path   string
			fields []string
			want   string
		}{
			{"/head", nil, "200 v1"},
			{"/head", []string{"X-Canary", "1"}, "200 v2"},
			{"/head", []string{"X-Canary", "2"}, "200 v1"},
			{"/head", []string{"Cookie", "a=1; beta=1"}, "200 v2"},
			{"/head", []string{"Cookie", "a=1", "Cookie", "beta=1"}, "200 v2"},
			{"/head", []string{"Cookie", "beta=2"}, "200 v1"},
			{"/group", []string{"Authorization", "good"}, "200 v2"},
			{"/group", []string{"Authorization", "unknown"}, "200 v1"},
			{"/group", []string{"Authorization", "bad"}, "401 who are you?"},
			{"/consumer", []string{"Authorization", "unknown"}, "200 v"},
		} {
			res, text := g.getAs(client, c.path, c.fields...)
			if got := fmt.Sprint(res.StatusCode, " ", text); !strings.HasPrefix(got, c.want) {
				t.Errorf("%s: %s with %q: %s, want %s", version, c.path, c.fields, got, c.want)
			}
			vary := strings.Join(res.Header.Values("Vary"), " | ")
			if looks := c.path == "/head"; looks && vary != "X-Canary, Cookie" || !looks && vary != "" {
				t.Errorf("%s: %s with %q: Vary: %s", version, c.path, c.fields, vary)
			}
			steps := strings.Join(res.Header.Values("X-Step"), ", ")
			want := map[string]string{"200 v1": "v1 for, global", "200 v2": "v2 for ann, global"}[c.want]
			if c.path == "/group" && want != "" && steps != want {
				t.Errorf("%s: %s with %q: steps %s, want %s", version, c.path, c.fields, steps, want)
			}
		}
		seen := map[string]int{}
		for range 20 {
			_, service := g.getAs(client, "/consumer", "Authorization", "good")
			seen[service]++
		}
		if len(seen) != 1 {
			t.Errorf("%s: one consumer is led to %v", version, seen)
		}
		req, err := http.NewRequestWithContext(
			t.Context(), http.MethodPost, "http://"+g.address+"/group", strings.NewReader("longer than this"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil || res.StatusCode != 413 {
			t.Fatalf("%s: a long body: %v %v", version, res, err)
		}
		_ = res.Body.Close()
	}
}
