package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/shared/waittest"
)

// shadow is a service that gets copies, and answers when it may.
type shadow struct {
	address string
	seen    chan string
	release chan struct{}
	asked   atomic.Int64
}

func newShadow(t *testing.T, status int) *shadow {
	t.Helper()
	s := &shadow{seen: make(chan string, 999), release: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		body, err := io.ReadAll(r.Body)
		s.seen <- fmt.Sprintf("%s %s %s X-A=%s X-Forwarded-For=%s %q %v",
			r.Method, r.Host, r.URL.RequestURI(), r.Header.Get("X-A"), r.Header.Get("X-Forwarded-For"), body, err)
		<-s.release
		w.WriteHeader(status)
		_, _ = w.Write(make([]byte, 100_000))
	}))
	t.Cleanup(server.Close)
	s.address = server.Listener.Addr().String()
	return s
}

// mirroring returns a configuration whose route, of a name of its own, mirrors to a service.
func mirroring(name, service, shadow, settings string) string {
	host, port, _ := net.SplitHostPort(shadow)
	config := to(service, "")
	other := fmt.Sprintf("services: [{name: shadow, endpoints: [{host: %s, port: %s}]}, ", host, port)
	config = strings.Replace(config, "services: [", other, 1)
	return strings.Replace(config, "{name: all, path: /*, service_id: s}",
		fmt.Sprintf("{name: %s, path: /shop/*, service_id: s, rewrite: {prefix: /inner}, mirror: {service_id: shadow%s}}",
			name, settings), 1)
}

// mirrored returns the counters of a route's mirror.
func (g *gateway) mirrored(route string) map[string]float64 {
	g.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(g.counters.Sets())
	families, err := registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["route"] != route {
				continue
			}
			if f.GetName() == "gateway_mirror_requests_active" {
				got["active"] = m.GetGauge().GetValue()
			} else {
				got[labels["result"]] = m.GetCounter().GetValue()
			}
		}
	}
	return got
}

// route is the name of routes that mirror.
const route = "mirrored"

// TestMirror sends copies of what the service sees, whatever the other service makes of them: it answers nothing until
// all clients have their responses.
func TestMirror(t *testing.T) {
	const passed = " /inner/a?b=c X-A=1 X-Forwarded-For=127.0.0.1 "
	service, part := seen(t), strings.Repeat("x", 600)
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		for _, c := range []struct {
			name   string
			method string
			body   io.Reader
			status int    // of the mirror
			want   string // what the mirror sees; empty: nothing
			counts string // what is counted
		}{
			{"a request without a body", "GET", nil, 200, `GET "" <nil>`, "answered"},
			{"a request with a body", "POST", strings.NewReader("hello"), 200, `POST "hello" <nil>`, "answered"},
			{"a body in parts", "POST", io.MultiReader(strings.NewReader("hel"), strings.NewReader("lo")), 200,
				`POST "hello" <nil>`, "answered"},
			{"one that fails", "GET", nil, 500, `GET "" <nil>`, "error"},
			{"a long body", "POST", strings.NewReader(strings.Repeat("x", 1001)), 200, "", "too_large"},
			{
				"a long body in parts", "POST", io.MultiReader(strings.NewReader(part), strings.NewReader(part)),
				200, "", "too_large",
			},
		} {
			t.Run(version+" "+c.name, func(t *testing.T) {
				if version == "HTTP/2" {
					once(t)
				}
				s := newShadow(t, c.status)
				g := start(t, mirroring(route, service, s.address, ", max_body_bytes: 1000"))
				req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+g.address+"/shop/a?b=c", c.body)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-A", "1")
				res, err := clientOf(t, version).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				if text := body(t, res); res.StatusCode != 200 || !strings.HasPrefix(text, "X-User=;") {
					t.Errorf("the client got %d %s", res.StatusCode, text)
				}
				_ = res.Body.Close()
				if c.want != "" {
					if got := waittest.Receive(t, "the copy", s.seen); got != strings.Replace(c.want, " ", " "+g.address+passed, 1) {
						t.Errorf("the mirror saw %s", got)
					}
				}
				close(s.release)
				waittest.Until(t, "the count", func() bool {
					got := g.mirrored(route)
					return got[c.counts] == 1 && got["active"] == 0
				})
			})
		}
	}
}

// TestMirrorThatDoesNotAnswer drops copies when too many are under way, and no client waits.
func TestMirrorThatDoesNotAnswer(t *testing.T) {
	s := newShadow(t, 200)
	g := start(t, mirroring(route, seen(t), s.address, ""))
	client := clientOf(t, "HTTP/1.1")
	const n = 300
	for range n {
		res, err := client.Get("http://" + g.address + "/shop/a")
		if err != nil {
			t.Fatal(err)
		}
		_ = body(t, res)
		_ = res.Body.Close()
		if res.StatusCode != 200 {
			t.Fatalf("the client got %d", res.StatusCode)
		}
	}
	if got := g.mirrored(route); got["active"] > 256 || got["dropped"]+got["active"]+got["error"] != n {
		t.Errorf("%v of %d", got, n)
	}
	close(s.release)
	waittest.Until(t, "the end", func() bool { return g.mirrored(route)["active"] == 0 })
}

// TestMirrorOfAShare mirrors about as many as it is to.
func TestMirrorOfAShare(t *testing.T) {
	s := newShadow(t, 200)
	close(s.release)
	g := start(t, mirroring(route, seen(t), s.address, ", percent: 25"))
	client := clientOf(t, "HTTP/1.1")
	const n = 1000
	for range n {
		res, err := client.Get("http://" + g.address + "/shop/a")
		if err != nil {
			t.Fatal(err)
		}
		_ = body(t, res)
		_ = res.Body.Close()
	}
	waittest.Until(t, "the end", func() bool { return g.mirrored(route)["active"] == 0 })
	got := g.mirrored(route)
	if sum := got["answered"] + got["dropped"] + got["error"]; sum < 150 || sum > 350 { // 7 standard deviations
		t.Errorf("%v of %d", got, n)
	}
}

// TestMirrorAndEarlyAnswers gives a copy up whose request does not come to its end.
func TestMirrorAndEarlyAnswers(t *testing.T) {
	s := newShadow(t, 200)
	close(s.release)
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // or it would wait for the body
		w.WriteHeader(403)
	}))
	t.Cleanup(refuses.Close)
	g := start(t, mirroring(route, refuses.Listener.Addr().String(), s.address, ""))
	pipe, write := io.Pipe()
	go func() { _, _ = io.WriteString(write, "the beginning") }()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+g.address+"/shop/a", pipe)
	if err != nil {
		t.Fatal(err)
	}
	res, err := clientOf(t, "HTTP/1.1").Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	_ = write.CloseWithError(io.ErrUnexpectedEOF)
	waittest.Until(t, "the count", func() bool {
		got := g.mirrored(route)
		return got["dropped"] == 1 && got["active"] == 0 && s.asked.Load() == 0
	})
}
