package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/certtest"
	"gateway.internal/shared/waittest"
)

// checks are those of the page, in testdata/chromium, and what each comes to. SCHEME stands for the scheme that the
// node was asked by.
var checks = []struct{ name, want string }{
	{"first", `{"same":true,"code":1000,"reason":"","wasClean":true}`},
	{"get", `{"status":200,"Method":"GET","Path":"/echo/get","Protocol":"SCHEME"}`},
	{"concurrent", `50`},
	{"upload", `{"Method":"PUT","Bytes":1048576,"same":true}`},
	{"streamedUpload", `{"Bytes":1000000,"same":true}`},
	{"aborted", `{"status":200,"came":true,"told":true}`},
	{"unavailable", `{"status":502,"code":"UPSTREAM_UNAVAILABLE"}`},
	{"tooLarge", `{"status":413,"code":"REQUEST_TOO_LARGE"}`},
	{"otherOrigin", `"TypeError"`},
	{"events", `{"got":[{"id":"1","data":"one"},{"id":"2","data":"of two\nlines"},{"id":"3","data":"after 2"}],"told":true}`},
	{"unaryBinary", `{"http":200,"status":0,"sizes":[271828],"initial":"in front","trailing":"q6ur"}`},
	{"unaryText", `{"http":200,"status":0,"sizes":[271828],"initial":"in front","trailing":"q6ur"}`},
	{"streamingBinary", `{"status":0,"got":[31415,9,2653,58979]}`},
	{"streamingText", `{"status":0,"got":[31415,9,2653,58979]}`},
	{"cancelled", `{"size":31415,"told":true}`},
	{"deadline", `{"status":4}`},
	{"failing", `{"http":200,"status":9,"messages":0,"same":true}`},
	{"unknownBinary", `{"http":200,"status":12}`},
	{"unknownText", `{"http":200,"status":12}`},
	{"unreachable", `{"status":14,"code":"UPSTREAM_UNAVAILABLE"}`},
	{"socket", `{"protocol":"echo","empty":true,"text":true,"binary":true,"large":true,"largeText":true,"code":4001,"reason":"that is all","wasClean":true}`},
	{"burst", `{"same":200,"code":1000,"reason":"","wasClean":true}`},
	{"sideBySide", `{"same":8,"clean":8}`},
	{"closedByService", `{"code":1001,"reason":"away","wasClean":true}`},
	{"brokenOff", `{"code":1006,"reason":"","wasClean":false}`},
	{"refused", `{"got":[1006,1006],"after":{"same":true,"code":1000,"reason":"","wasClean":true}}`},
}

// TestChromium has the scripts of a page of another origin use a node by all that a browser has: fetch, server-sent
// events, gRPC-Web and WebSockets, over HTTP/1.1 and HTTP/2.
func TestChromium(t *testing.T) {
	for _, c := range []struct {
		name    string
		options []string
		http2   bool // over TLS
		schemes []string
	}{
		{"HTTP/1.1, and HTTP/2 over TLS", nil, true, []string{"http", "https"}},
		{"HTTP/1.1 over TLS", []string{"--disable-http2"}, false, []string{"https"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			page := newPage(t)
			log := filepath.Join(t.TempDir(), "access.log")
			f := newFront(t, page.config(t), "--access-log", log)
			node := make(map[string]string)
			for _, scheme := range c.schemes {
				address := map[string]string{"http": f.plain, "https": f.secure}[scheme]
				node[scheme] = pageHost + address[strings.LastIndex(address, ":"):]
			}
			results := page.open(t, node, c.options)
			for _, scheme := range c.schemes {
				for _, check := range checks {
					want := strings.ReplaceAll(check.want, "SCHEME", scheme)
					if check.name == "streamedUpload" && (scheme == "http" || !c.http2) {
						want = "TypeError: Failed to fetch" // browsers do that over HTTP/2 only
					}
					if got := results[scheme+" "+check.name]; got != want {
						t.Errorf("%s %s: %s instead of %s", scheme, check.name, got, want)
					}
				}
			}
			if want := len(c.schemes) * len(checks); len(results) != want {
				t.Errorf("%d results instead of %d: %v", len(results), want, results)
			}
			protocols(t, log, node, c.http2)
		})
	}
}

// pageHost is what the page calls the node. That host does not ask for client certificates: where one is asked for,
// Chromium opens no socket before a fetch has settled with its user that there is none.
const pageHost = "gateway.localhost"

// page is the origin of the page: it serves the files, takes the results, and says what services have been told.
type page struct {
	url     string
	results chan result
	told    map[string]told
}

type result struct {
	Name, Failed string
	Got          json.RawMessage
	Milliseconds int
}

func newPage(t testing.TB) *page {
	t.Helper()
	p := &page{results: make(chan result), told: map[string]told{"call": make(told, 100), "response": make(told, 100), "events": make(told, 100)}}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(filepath.Join("testdata", "chromium"))))
	mux.HandleFunc("POST /results", func(w http.ResponseWriter, r *http.Request) {
		var got result
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		select {
		case p.results <- got:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("GET /told/{what}", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-p.told[r.PathValue("what")]:
		case <-r.Context().Done():
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	p.url = s.URL
	return p
}

// config is a node's configuration, with the services that the page asks, and two that nobody listens for.
func (p *page) config(t testing.TB) map[string]any {
	t.Helper()
	service := func(name, protocol string, port int) any {
		return map[string]any{"name": name, "protocol": protocol, "endpoints": []any{map[string]any{"host": "127.0.0.1", "port": port}}}
	}
	route := func(path, service string) any {
		return map[string]any{"name": strings.ToLower(strings.Trim(path, "/*")), "path": path, "service_id": service}
	}
	server := certtest.Authority(t).Issue(t, pageHost)
	return map[string]any{
		"certificates": []any{certificateOf(server, pageHost, false)},
		"services": []any{
			service("echo", "http", echo(t)),
			service("events", "http", events(t, p.told["events"], p.told["response"])),
			service("ws", "http", webSockets(t)),
			service("interop", "grpc", grpcSteps(t, p.told["call"])),
			service("gone", "http", testserver.FreePort(t)),
			service("gone-grpc", "grpc", testserver.FreePort(t)),
		},
		"routes": []any{
			route("/echo/*", "echo"), route("/events/*", "events"), route("/ws/*", "ws"), route("/gone/*", "gone"),
			map[string]any{"name": "small", "path": "/small/*", "service_id": "echo", "policy_id": "small"},
			route("/grpc.testing.TestService/*", "interop"), route("/gone.Service/*", "gone-grpc"),
		},
		"policies": []any{map[string]any{"name": "small", "max_request_bytes": 1000}},
		"middleware": []any{map[string]any{"name": "browser", "type": "cors", "order": 1, "config": map[string]any{
			"allow_origins": []string{p.url}, "allow_methods": []string{"GET", "POST", "PUT"}, "allow_headers": []string{"*"}, "allow_credentials": true,
			"expose_headers": []string{"grpc-status", "grpc-message", "x-grpc-test-echo-initial"},
		}}},
		"pipelines": []any{map[string]any{"name": "browsers", "global": true, "middleware_ids": []string{"browser"}}},
	}
}

// open has a new Chromium open the page, and returns what came of each check when all are done. The node is known by
// scheme.
func (p *page) open(t testing.TB, node map[string]string, options []string) map[string]string {
	t.Helper()
	bases := make(url.Values)
	for scheme, host := range node {
		bases.Set(scheme, scheme+"://"+host)
	}
	startChromium(t, p.url+"/page.html?"+bases.Encode(), options...)
	results := make(map[string]string)
	for {
		select {
		case r := <-p.results:
			if r.Name == "end" {
				return results
			}
			t.Logf("%s: %s%s in %d ms", r.Name, r.Failed, r.Got, r.Milliseconds)
			results[r.Name] = r.Failed + string(r.Got)
		case <-time.After(time.Minute): // twice what the page allows a check
			t.Fatalf("the page has not come to its end, only to %v", results)
		}
	}
}

// startChromium starts a new Chromium at a URL. It knows no host but this one, and so never asks anybody else for
// anything.
func startChromium(t testing.TB, at string, options ...string) {
	t.Helper()
	home := t.TempDir()
	args := append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-breakpad",
		"--enable-logging=stderr", "--no-proxy-server", "--ignore-certificate-errors",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE *.localhost, EXCLUDE 127.0.0.1",
		"--user-data-dir=" + filepath.Join(home, "profile"),
	}, options...)
	env := []string{"HOME=" + home, "XDG_CONFIG_HOME=" + home, "XDG_CACHE_HOME=" + home}
	launch(t, tool(t, "chromium"), env, append(args, at)...)
}

// protocols checks what the node has logged: over which protocol each kind of request came.
func protocols(t testing.TB, log string, node map[string]string, http2 bool) {
	t.Helper()
	type line struct{ Method, Host, Path, Protocol string }
	var lines []line
	find := func(host, method, path string) error {
		for _, l := range lines {
			if l.Host == host && l.Method == method && l.Path == path {
				return nil
			}
		}
		return fmt.Errorf("there is no %s of %s%s", method, host, path)
	}
	waittest.UntilNil(t, "the access log", func() error {
		text, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		lines = nil
		for text := range bytes.Lines(text) {
			var l line
			if err := json.Unmarshal(text, &l); err != nil {
				return err
			}
			lines = append(lines, l)
		}
		for _, host := range node {
			for _, asked := range []string{
				"GET /ws/first", "GET /echo/get", "OPTIONS /echo/up", "PUT /echo/up", "GET /events", "POST /events/seen",
				"OPTIONS /grpc.testing.TestService/UnaryCall", "POST /grpc.testing.TestService/UnaryCall", "POST /grpc.testing.TestService/StreamingOutputCall",
				"GET /ws/socket", "GET /ws/burst", "GET /ws/side7", "GET /ws/goodbye", "GET /ws/break", "GET /ws/refused", "GET /gone/ws", "GET /ws/after",
			} {
				method, path, _ := strings.Cut(asked, " ")
				if err := find(host, method, path); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for _, l := range lines {
		want := "HTTP/1.1"
		if http2 && l.Host == node["https"] && l.Path != "/ws/first" {
			want = "HTTP/2"
		}
		if l.Protocol != want {
			t.Errorf("%s of %s%s came over %s instead of %s", l.Method, l.Host, l.Path, l.Protocol, want)
		}
	}
}
