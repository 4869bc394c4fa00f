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
