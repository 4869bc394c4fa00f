package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/via"
	"gateway.internal/shared/waittest"
)

// authorizer is a service that decides by what a request's token says, and tells what it was asked.
type authorizer struct {
	address string
	asked   atomic.Int64
	last    atomic.Pointer[http.Request]
	body    atomic.Pointer[string]
	begun   chan struct{}
	gone    chan struct{}
}

func newAuthorizer(t *testing.T) *authorizer {
	t.Helper()
	a := &authorizer{begun: make(chan struct{}, 9), gone: make(chan struct{}, 9)}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked.Add(1)
		b, _ := io.ReadAll(r.Body)
		text := string(b)
		a.body.Store(&text)
		a.last.Store(r)
		switch r.Header.Get("Authorization") {
		case "good":
			w.Header().Add("X-User", "ann")
			w.Header().Add("X-Groups", "staff, admins")
			w.Header().Add("X-Secret", "not for services")
		case "bad":
			w.Header().Set("WWW-Authenticate", `Bearer realm="shop"`)
			w.WriteHeader(401)
			_, _ = io.WriteString(w, "who are you?")
		case "login":
			w.Header().Set("Location", "/login")
			w.WriteHeader(302)
		case "broken":
			w.WriteHeader(500)
			_, _ = io.WriteString(w, "broken")
		case "slow":
			a.begun <- struct{}{}
			<-r.Context().Done()
			a.gone <- struct{}{}
		case "cookie":
			w.Header().Set("Set-Cookie", "session=1")
			w.WriteHeader(401)
		case "long":
			_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
		}
	}))
	t.Cleanup(s.Close)
	a.address = s.Listener.Addr().String()
	return a
}

// asking returns the configuration of a service whose requests an authorizer decides about.
func asking(service, authorizer, settings string) string {
	if !strings.Contains(settings, " timeout: ") {
		settings += ", timeout: 20s" // the default, a second, is too little for a busy machine
	}
	host, port, _ := net.SplitHostPort(authorizer)
	config := to(service, ", timeout: 20s") + fmt.Sprintf(`
middleware: [{name: auth, type: ext_auth, config: {service_id: authorizer%s}}]
pipelines: [{name: auth, global: true, middleware_ids: [auth]}]
`, settings)
	other := fmt.Sprintf("services: [{name: authorizer, endpoints: [{host: %s, port: %s}]}, ", host, port)
	return strings.Replace(config, "services: [", other, 1)
}

// TestExtAuth has another service decide, over each version of HTTP, in loops and without.
func TestExtAuth(t *testing.T) {
	service := seen(t)
	for _, c := range []struct {
		name, settings, token string
		status                int
		body                  string // a part of it
		header                string // "Name: value" of the response
		asked                 int64  // for two requests
	}{
		{"lets pass", "", "good", 200, "", "", 2},
		{"refuses", "", "bad", 401, "who are you?", `Www-Authenticate: Bearer realm="shop"`, 2},
		{"sends elsewhere", "", "login", 302, "", "Location: /login", 2},
		{"fails", "", "broken", 500, "broken", "", 2},
		{"fails open", ", on_error: allow", "broken", 200, "", "", 2},
		{"answers too much", "", "long", 503, "did not answer", "", 2},
		{"takes too long", ", timeout: 250ms", "slow", 503, "did not answer", "", 2},
		{"takes too long, and is not needed", ", timeout: 250ms, on_error: allow", "slow", 200, "", "", 2},
		{"hands fields on", ", response_headers: [X-User, X-Role]", "good", 200, "X-User=ann;X-Role=;", "", 2},
		{"is asked once", ", cache: {ttl: 1h}", "good", 200, "", "", 1},
		{"is asked once by whom it refuses", ", cache: {ttl: 1h, key: [authorization]}", "bad", 401, "who are you?", "", 1},
		{"is asked again where it sets a cookie", ", cache: {ttl: 1h}", "cookie", 401, "", "Set-Cookie: session=1", 2},
		{"is asked again by whom it failed", ", cache: {ttl: 1h}", "broken", 500, "broken", "", 2},
	} {
		for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(c.name+" "+version, func(t *testing.T) {
				if version == "HTTP/2" {
					once(t)
				}
				a := newAuthorizer(t)
				g := start(t, asking(service, a.address, c.settings))
				client := clientOf(t, version)
				client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				late := int64(0) // requests whose questions did not come within the timeout, on a busy machine
				for n := 0; n < 2; n++ {
					req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+g.address+"/a/b?c=d", nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Authorization", c.token)
					req.Header.Set("X-Role", "admin")
					req.Header.Set("X-Other", "not for the authorizer")
					res, err := client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					text := body(t, res)
					_ = res.Body.Close()
					if res.StatusCode != c.status || !strings.Contains(text, c.body) {
						t.Errorf("%d %s", res.StatusCode, text)
					}
					if name, value, ok := strings.Cut(c.header, ": "); ok && res.Header.Get(name) != value {
						t.Errorf("%v", res.Header)
					}
					if res.Header.Get("X-Secret") != "" || res.Header.Get("X-Request-Id") == "" {
						t.Errorf("%v", res.Header)
					}
					if c.token == "slow" {
						select {
						case <-a.begun:
						default:
							if late++; late > 100 {
								t.Fatal("it is never asked")
							}
							n--
						}
					}
				}
				if n := a.asked.Load(); n < c.asked || n > c.asked+late {
					t.Errorf("asked %d times", n)
				}
				r := a.last.Load()
				for name, want := range map[string]string{
					"X-Forwarded-Uri": "/a/b?c=d", "X-Forwarded-Method": "GET", "X-Forwarded-Host": g.address,
					"X-Forwarded-For": "127.0.0.1", "X-Other": "", "Authorization": c.token,
				} {
					if got := r.Header.Get(name); got != want {
						t.Errorf("the authorizer saw %s: %q, want %q", name, got, want)
					}
				}
				if r.URL.RequestURI() != "/a/b?c=d" || r.Header.Get("X-Request-Id") == "" {
					t.Errorf("the authorizer saw %s, %v", r.URL, r.Header)
				}
			})
		}
	}
}

// TestExtAuthThatIsCutOff takes a refusal whose body does not come as a whole for one, and does not keep it.
func TestExtAuthThatIsCutOff(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		breaks func(w http.ResponseWriter, r *http.Request)
		want   int
	}{
		{"too long", 401, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
		}, 401},
		{"breaks off", 403, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 403},
		{"breaks off later", 302, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "a part")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, 302},
		{"takes too long", 401, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 401},
		{"no refusal", 200, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 200},
		{"can't say", 500, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int64
			authorizer := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				w.Header().Set("Content-Length", "100000")
				w.Header().Set("Content-Encoding", "zstd")
				w.Header().Set("Location", "/login")
				w.WriteHeader(c.status)
				_ = http.NewResponseController(w).Flush()
				c.breaks(w, r)
			})
			g := start(t, asking(seen(t), authorizer, ", timeout: 500ms, on_error: allow, cache: {ttl: 1h}"))
			for range 2 {
				res := g.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]
				text := body(t, res)
				if res.StatusCode != c.want {
					t.Errorf("%d %s", res.StatusCode, text)
				}
				if c.want == 200 {
					continue
				}
				if text != "" || res.Header.Get("Location") != "/login" || res.Header.Get("Content-Encoding") != "" {
					t.Errorf("%v %q", res.Header, text)
				}
			}
			if n := asked.Load(); n != 2 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// seen is a service that answers with fields that it saw.
func seen(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "X-User=%s;X-Role=%s;%s", r.Header.Get("X-User"), r.Header.Get("X-Role"), b)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestExtAuthOfABody sends the body to whom decides, and then to the service.
func TestExtAuthOfABody(t *testing.T) {
	a := newAuthorizer(t)
	g := start(t, asking(seen(t), a.address, ", path: /check, max_body_bytes: 1000"))
	const post = "POST / HTTP/1.1\r\nHost: a\r\nAuthorization: good\r\n"
	long := strings.Repeat("x", 1001)
	for _, c := range []struct {
		name, request string
		status        int
		want          string
	}{
		{"with a length", post + "Content-Length: 5\r\n\r\nhello", 200, "hello"},
		{"in chunks", post + "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", 200, "hello"},
		{"that is awaited", post + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", 200, "hello"},
		{"that is too long", post + "Content-Length: 1001\r\n\r\n" + long, 413, "longer than 1000"},
		{"in chunks that are too long", post + "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + long + "\r\n0\r\n\r\n", 413,
			"longer than 1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var res *http.Response
			if strings.Contains(c.request, "Expect") {
				res = g.expecting(c.request, "hello")
			} else {
				res = g.raw(c.request, "POST")[0]
			}
			if text := body(t, res); res.StatusCode != c.status || !strings.Contains(text, c.want) {
				t.Errorf("%d %s", res.StatusCode, text)
			}
			if c.status == 200 && (*a.body.Load() != "hello" || a.last.Load().URL.Path != "/check") {
				t.Errorf("the authorizer saw %s %q", a.last.Load().URL, *a.body.Load())
			}
		})
	}
}

// TestExtAuthAndTheClientsLeave breaks the question off when nobody waits for its answer any more.
func TestExtAuthAndTheClientsLeave(t *testing.T) {
	lookOften(t)
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(version, func(t *testing.T) {
			if version == "HTTP/2" {
				once(t)
			}
			a := newAuthorizer(t)
			g := start(t, asking(seen(t), a.address, ", timeout: 1m"))
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			req, err := http.NewRequestWithContext(ctx, "GET", "http://"+g.address+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "slow")
			failed := make(chan error, 1)
			go func() {
				res, err := clientOf(t, version).Do(req)
				if err == nil {
					_ = res.Body.Close()
				}
				failed <- err
			}()
			waittest.Receive(t, "the question", a.begun)
			begun := time.Now()
			leave()
			waittest.Receive(t, "the end of the question", a.gone)
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("after %s", took)
			}
			waittest.Receive(t, "the client's error", failed)
		})
	}
}

// expecting sends a head, and the body once it is told to.
func (g *gateway) expecting(head, body string) *http.Response {
	g.t.Helper()
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(waittest.Deadline())
	_, _ = io.WriteString(c, head)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, &http.Request{Method: "POST"})
	if err != nil || res.StatusCode != 100 {
		g.t.Fatalf("%v, %v", res, err)
	}
	_, _ = io.WriteString(c, body)
	if res, err = http.ReadResponse(r, &http.Request{Method: "POST"}); err != nil {
		g.t.Fatal(err)
	}
	return res
}

// TestExtAuthThatAsksItself ends a loop: the service that decides is one whose requests it decides about.
func TestExtAuthThatAsksItself(t *testing.T) {
	g := start(t, "")
	g.apply(asking(seen(t), g.address, ""))
	res := g.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET")[0]
	if text := body(t, res); res.StatusCode != 508 {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	waittest.Until(t, "all are logged", func() bool { return len(g.requests()) > via.DefaultMaxVisits })
	if n := len(g.requests()); n != via.DefaultMaxVisits+1 {
		t.Errorf("it made %d requests of one", n)
	}
}

// requests returns the lines of the access log.
func (g *gateway) requests() []string {
	g.t.Helper()
	return strings.Split(strings.TrimSpace(g.logged()), "\n")
}

// counted returns the value of a counter of middleware that has these labels, names and values in turn.
func (g *gateway) counted(name string, labels ...string) (n float64) {
	g.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(g.counters.Sets())
	families, err := registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			has := map[string]string{}
			for _, l := range m.GetLabel() {
				has[l.GetName()] = l.GetValue()
			}
			matches := f.GetName() == name
			for pair := range slices.Chunk(labels, 2) {
				matches = matches && has[pair[0]] == pair[1]
			}
			if matches {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

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
					const other = "pipelines: [{name: stamp, global: true, middleware_ids: [stamp]}, {name: first, parallel: true, "
					config = strings.NewReplacer(
						"pipelines: [{name: auth, ", other, "middleware_ids: [auth]", "middleware_ids: [auth, more]",
						"middleware: [", "middleware: [{name: more, type: ip_restriction, order: 1, config: {deny: [192.0.2.1]}}, ",
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
