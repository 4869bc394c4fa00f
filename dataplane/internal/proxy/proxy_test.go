package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gateway.internal/dataplane/internal/accesslog"
	"gateway.internal/dataplane/internal/certificate"
	"gateway.internal/dataplane/internal/follow"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/http2"
	"gateway.internal/dataplane/internal/listener"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/dataplane/internal/target"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/dataplane/internal/via"
	"gateway.internal/shared/waittest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		looping = true
		code = m.Run()
	}
	if code == 0 {
		if err := goleak.Find(goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop")); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// looping makes nodes serve every connection over HTTP/1 in a loop from its first request on, as far as it can be: all tests run with it and without.
var looping bool

// once skips a test of clients of HTTP/2 the second time that tests run: their connections are never served in a loop.
func once(t *testing.T) {
	t.Helper()
	if looping {
		t.Skip("the same as without loops")
	}
}

// gateway is a node with everything but its main function.
type gateway struct {
	t        *testing.T
	address  string // without TLS
	server   *http1.Server
	two      *http2.Server
	access   *accesslog.Log
	loops    *socket.Loops
	plain    *listener.Listener
	secure   *listener.Listener
	node     *runtime.Runtime
	counters *telemetry.Registry
	services *upstream.Registry
	lines    string      // the access log's file
	log      *syncBuffer // what the node logged
}

// syncBuffer is a buffer that many may write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func start(t *testing.T, config string) *gateway {
	t.Helper()
	return startWith(t, http1.DefaultLimits(), config)
}

// startHasty starts a node that does not wait long for heads and bodies, for tests of these limits: on a slow machine others would reach them.
func startHasty(t *testing.T, config string) *gateway {
	t.Helper()
	limits := http1.DefaultLimits()
	limits.HeadTimeout, limits.BodyTimeout = 300*time.Millisecond, 300*time.Millisecond
	return startWith(t, limits, config)
}

func startWith(t *testing.T, limits http1.Limits, config string) *gateway {
	t.Helper()
	return startNode(t, limits, target.DefaultSettings(), config)
}

func startNode(t *testing.T, limits http1.Limits, paths target.Settings, config string, edits ...func(*listener.Settings)) *gateway {
	t.Helper()
	return startProxy(t, limits, paths, HeaderSettings{}, config, edits...)
}

func startProxy(t *testing.T, limits http1.Limits, paths target.Settings, headers HeaderSettings, config string, edits ...func(*listener.Settings)) *gateway {
	t.Helper()
	waittest.Watch(t)
	logged := &syncBuffer{}
	log := slog.New(slog.NewTextHandler(logged, nil))
	counters := telemetry.New(2)
	services := upstream.NewRegistry(log)
	node := runtime.New(log, services, counters, certificate.NewTickets(nil))
	node.UsePaths(paths)
	g := &gateway{t: t, node: node, log: logged, counters: counters, services: services, lines: filepath.Join(t.TempDir(), "access.log")}
	if config != "" {
		g.apply(config)
	}
	access, err := accesslog.Open(accesslog.Settings{Path: g.lines, Query: true, Shards: 2}, log)
	if err != nil {
		t.Fatal(err)
	}
	g.access = access
	p := New(node, counters, via.New(via.Settings{Pseudonym: "gateway", MaxVisits: via.DefaultMaxVisits}), access).Headers(headers)
	g.server = http1.NewServer(limits, p)
	two := http2.NewServer(limits, p)
	g.two = two
	g.server.HandOver(two.Serve)
	lot := socket.NewLot()
	g.server.RestIn(lot)
	if looping {
		g.loops = socket.NewLoops(2)
		g.server.ServeIn(g.loops, 0)
	}
	ctx, stop := context.WithCancel(context.Background())
	go g.server.Run(ctx)
	servers := listener.Servers{HTTP1: g.server, HTTP2: two}
	set := listener.Settings{Log: log, Servers: servers, Counters: counters}
	for _, edit := range edits {
		edit(&set)
	}
	g.plain = g.listen(set)
	set.Security = &listener.Security{Certificates: node.Certificates, HandshakeTimeout: time.Second}
	g.secure = g.listen(set)
	t.Cleanup(func() {
		g.end()
		stop()
		lot.Close()
		services.Close()
		g.loops.Close()
		access.Close()
	})
	g.address = g.plain.Addr().String()
	return g
}

func (g *gateway) listen(set listener.Settings) *listener.Listener {
	g.t.Helper()
	ln, err := listener.Listen("127.0.0.1:0", set)
	if err != nil {
		g.t.Fatal(err)
	}
	go ln.Serve()
	return ln
}

// end ends the node's listeners and all connections.
func (g *gateway) end() {
	now := make(chan struct{})
	close(now)
	listener.Drain(now, g.plain, g.secure)
}

// drain begins to end the node's listeners, and returns when their address is closed. What is under way may go on until cut is called; drained is closed
// when nothing is left.
func (g *gateway) drain() (cut func(), drained <-chan struct{}) {
	g.t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		listener.Drain(stop, g.plain, g.secure)
	}()
	waittest.Until(g.t, "the address is closed", func() bool {
		c, err := net.Dial("tcp", g.address)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	return sync.OnceFunc(func() { close(stop) }), done
}

// apply gives the node a configuration.
func (g *gateway) apply(config string) {
	g.t.Helper()
	path := filepath.Join(g.t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		g.t.Fatal(err)
	}
	files := &follow.Files{Path: path, Log: slog.New(slog.DiscardHandler), To: g.node}
	if err := files.Load(); err != nil {
		g.t.Fatal(err)
	}
}

// to returns the configuration of one service with a policy and a route for all paths.
func to(address, extra string) string {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf(`services: [{name: s, endpoints: [{host: %s, port: %s}], connection_pool: {response_timeout: 20s, connect_timeout: 20s}, policy_id: p}]
routes: [{name: all, path: /*, service_id: s}]
policies: [{name: p, max_request_bytes: 1000000%s}]
`, host, port, extra)
}

// respondingWithin changes how long a service of a configuration may take to respond.
func respondingWithin(time, config string) string {
	return strings.Replace(config, "response_timeout: 20s", "response_timeout: "+time, 1)
}

// raw sends text and returns everything that comes until the connection ends, or until n responses were read.
func (g *gateway) raw(text string, methods ...string) []*http.Response {
	g.t.Helper()
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	if _, err := io.WriteString(c, text); err != nil {
		g.t.Fatal(err)
	}
	r := bufio.NewReader(c)
	var all []*http.Response
	for _, m := range methods {
		res, err := http.ReadResponse(r, &http.Request{Method: m})
		if err != nil {
			g.t.Fatalf("response %d: %v", len(all)+1, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			g.t.Fatalf("response %d: %v", len(all)+1, err)
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
		all = append(all, res)
	}
	return all
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// echo answers with what it was sent.
func echo(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("X-Method", r.Method)
		w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
		if r.Trailer.Get("X-Sum") != "" {
			w.Header().Set("X-Got-Trailer", r.Trailer.Get("X-Sum"))
		}
		_, _ = w.Write(b)
		if len(b) == 0 {
			fmt.Fprintf(w, "%s %s", r.Method, r.URL.RequestURI())
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestPipelining(t *testing.T) {
	g := start(t, to(echo(t), ""))
	all := g.raw("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcHEAD /3 HTTP/1.1\r\nHost: a\r\n\r\n"+
		"POST /4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\nX-Sum: 7\r\n\r\nGET /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET", "POST", "HEAD", "POST", "GET")
	for i, want := range []string{"GET /1", "abc", "", "xyz", "GET /5"} {
		if got := body(t, all[i]); got != want || all[i].StatusCode != 200 {
			t.Errorf("response %d: %d %q", i+1, all[i].StatusCode, got)
		}
	}
	if all[3].Header.Get("X-Got-Trailer") != "7" || all[3].Header.Get("X-Length") != "-1" {
		t.Errorf("the chunked request arrived as %v", all[3].Header)
	}
	if !all[4].Close {
		t.Error("the connection goes on after Connection: close")
	}
}

func TestErrors(t *testing.T) {
	g := startHasty(t, to(echo(t), "")+"---\nroutes: [{name: none, path: /none, service_id: empty}, {name: gone, path: /gone, service_id: gone}]\nservices: [{name: empty}, {name: gone, endpoints: [{host: 127.0.0.1, port: 1}]}]\n")
	for _, c := range []struct {
		text   string
		status int
		code   string
	}{
		{"GET /none HTTP/1.1\r\nHost: a\r\n\r\n", 503, "NO_HEALTHY_ENDPOINTS"},
		{"GET /gone HTTP/1.1\r\nHost: a\r\n\r\n", 502, "UPSTREAM_UNAVAILABLE"},
		{"GET / HTTP/1.1\r\n\r\n", 400, "BAD_REQUEST"},
		{"GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "BAD_REQUEST"},
		{"GET /a/%2E%2e/b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "BAD_REQUEST"},
		{"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "BAD_REQUEST"},
		{"GET /a%2Fb HTTP/1.1\r\nHost: a\r\n\r\n", 400, "BAD_REQUEST"},
		{"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "BAD_REQUEST"},
		{"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "HTTP_VERSION_NOT_SUPPORTED"},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000001\r\n\r\n", 413, "REQUEST_TOO_LARGE"},
		{"GET /" + strings.Repeat("a", 9000) + " HTTP/1.1\r\nHost: a\r\n\r\n", 414, "URI_TOO_LONG"},
		{"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 70_000) + "\r\n\r\n", 431, "HEADERS_TOO_LARGE"},
		{"GET / HTTP/1.1\r\nHost: a\r\n", 408, "REQUEST_TIMEOUT"},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", 408, "REQUEST_TIMEOUT"},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabX", 400, "BAD_REQUEST"},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10000\r\n"+strings.Repeat("x", 65536)+"\r\n", 17) + "0\r\n\r\n", 413, "REQUEST_TOO_LARGE"},
	} {
		res := g.raw(c.text, "GET")[0]
		text := body(t, res)
		if res.StatusCode != c.status || !strings.Contains(text, `"code":"`+c.code+`"`) || !strings.Contains(text, `{"success":false,"error":{`) {
			t.Errorf("%.60q: %d %s", c.text, res.StatusCode, text)
		}
	}
	empty := start(t, "")
	if res := empty.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]; res.StatusCode != 503 || !strings.Contains(body(t, res), "NOT_READY") {
		t.Errorf("without a configuration: %d", res.StatusCode)
	}
	other := start(t, "routes: [{name: a, path: /a, direct_response: {status: 201, body: hi, headers: {X-A: b}}}, {name: r, path: '/old/{id}', redirect: {status: 301, path: '/new/{id}'}}]")
	all := other.raw("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /old/7?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "GET", "GET")
	if all[0].StatusCode != 404 || all[1].StatusCode != 201 || body(t, all[1]) != "hi" || all[1].Header.Get("X-A") != "b" {
		t.Errorf("got %d, %d %v", all[0].StatusCode, all[1].StatusCode, all[1].Header)
	}
	if loc := all[2].Header.Get("Location"); all[2].StatusCode != 301 || loc != "http://a/new/7?x=1" {
		t.Errorf("redirect: %d %s", all[2].StatusCode, loc)
	}
}

// scripted is a server that answers each connection with a function.
func scripted(t *testing.T, serve func(n int, c net.Conn, r *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	n := 0
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n++
			i := n
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(waittest.Deadline())
				serve(i, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

func readRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

func TestUpstreamResponses(t *testing.T) {
	for _, c := range []struct {
		name, response string
		status         int
		want           string
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"},
		{"chunks and trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", 200, "ok"},
		{"until it closes", "HTTP/1.0 200 OK\r\n\r\nok", 200, "ok"},
		{"early hints", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""},
		{"nonsense", "220 smtp ready\r\n\r\n", 502, "UPSTREAM_INVALID_RESPONSE"},
		{"both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", 502, "UPSTREAM_INVALID_RESPONSE"},
		{"bad chunk at once", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 502, "UPSTREAM_INVALID_RESPONSE"},
		{"endless head", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 300_000), 502, "UPSTREAM_INVALID_RESPONSE"},
		{"nothing", "", 502, "UPSTREAM_UNAVAILABLE"},
		{"half a head", "HTTP/1.1 200 OK\r\nCont", 502, "UPSTREAM_UNAVAILABLE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, to(scripted(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				if readRequest(r) {
					_, _ = io.WriteString(conn, c.response)
				}
			}), ""))
			text := "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
			methods := []string{"GET"}
			if c.name == "early hints" {
				methods = append(methods, "GET")
			}
			all := g.raw(text, methods...)
			res := all[len(all)-1]
			if got := body(t, res); res.StatusCode != c.status || !strings.Contains(got, c.want) {
				t.Errorf("got %d %s", res.StatusCode, got)
			}
		})
	}
}

func TestSlowUpstream(t *testing.T) {
	release := make(chan struct{})
	address := scripted(t, func(_ int, _ net.Conn, r *bufio.Reader) {
		if readRequest(r) {
			<-release
		}
	})
	defer close(release)
	for _, config := range []string{respondingWithin("100ms", to(address, "")), to(address, ", timeout: 100ms")} {
		g := start(t, config)
		res := g.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]
		if text := body(t, res); res.StatusCode != 504 || !strings.Contains(text, "UPSTREAM_TIMEOUT") {
			t.Errorf("got %d %s", res.StatusCode, text)
		}
	}
}

// TestCutResponse lets the service die within its body: the client must see that the response is not whole.
func TestCutResponse(t *testing.T) {
	for _, head := range []string{"Content-Length: 100000", "Transfer-Encoding: chunked"} {
		g := start(t, to(scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if readRequest(r) {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+head+"\r\n\r\n5\r\nhello\r\n")
			}
		}), ""))
		c, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(waittest.Deadline())
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
		}
		if err == nil {
			t.Errorf("%s: the client took half a response for whole", head)
		}
		_ = c.Close()
	}
}

// TestStaleConnection lets the service close each connection after one response without saying so.
func TestStaleConnection(t *testing.T) {
	g := start(t, to(scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if readRequest(r) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}), ""))
	for range 50 {
		if res := g.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET")[0]; res.StatusCode != 200 {
			t.Fatalf("got %d", res.StatusCode)
		}
	}
}

// TestUnaskedBytes lets the service send a second response that nobody asked for: it must not answer the next request.
func TestUnaskedBytes(t *testing.T) {
	g := start(t, to(scripted(t, func(n int, c net.Conn, r *bufio.Reader) {
		for readRequest(r) {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmineHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
		}
	}), ""))
	for range 20 {
		if got := body(t, g.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]); got != "mine" {
			t.Fatalf("got %q", got)
		}
	}
}

func TestLargeBodiesBothWays(t *testing.T) {
	g := start(t, strings.Replace(to(echo(t), ""), "1000000", "100000000", 1))
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MiB
	want := sha256.Sum256(big)
	for _, chunked := range []bool{false, true} {
		var reader io.Reader = bytes.NewReader(big)
		if chunked {
			reader = io.MultiReader(reader)
		}
		res, err := http.Post("http://"+g.address+"/", "application/octet-stream", reader)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		_, _ = io.Copy(h, res.Body)
		_ = res.Body.Close()
		if !bytes.Equal(h.Sum(nil), want[:]) {
			t.Errorf("chunked %v: another body came back, status %d", chunked, res.StatusCode)
		}
	}
}

func TestExpectContinue(t *testing.T) {
	g := start(t, to(echo(t), ""))
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 100 {
		t.Fatalf("got %v, %v", res, err)
	}
	_, _ = io.WriteString(c, "abc")
	if res, err = http.ReadResponse(r, nil); err != nil || res.StatusCode != 200 || body(t, res) != "abc" {
		t.Fatalf("got %v, %v", res, err)
	}
}

// TestEarlyResponse lets the service refuse before it has read the body.
func TestEarlyResponse(t *testing.T) {
	g := start(t, to(scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, r)
		}
	}), ""))
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nfirst part")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 403 {
		t.Fatalf("got %v, %v", res, err)
	}
}

func TestHTTP10(t *testing.T) {
	g := start(t, to(echo(t), ""))
	res := g.raw("GET /x HTTP/1.0\r\n\r\n", "GET")[0]
	if body(t, res) != "GET /x" || !res.Close {
		t.Errorf("got %v", res)
	}
	all := g.raw("GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n", "GET", "GET")
	if body(t, all[1]) != "GET /2" {
		t.Error("keep-alive of HTTP/1.0 does not work")
	}
}

func TestRewriteAndMiddleware(t *testing.T) {
	config := to(echo(t), "") + `---
routes:
  - {name: strip, path: /api/*, service_id: s, rewrite: {prefix: /}, pipeline_id: front}
  - {name: move, path: "/users/{id}", service_id: s, rewrite: {path: "/v2/u/{id}", host: inner}}
  - {name: closed, path: /closed/*, service_id: s, pipeline_id: nobody}
  - {name: small, path: /small/*, service_id: s, pipeline_id: front, policy_id: small}
  - {name: none, path: /closed/small, service_id: s, pipeline_id: nobody, policy_id: small}
policies: [{name: small, max_request_bytes: 10}]
middleware:
  - {name: stamp, type: headers, order: 1, config: {response: {set: {X-Stamp: "1"}}}}
  - {name: deny, type: ip_restriction, order: 2, config: {deny: ["127.0.0.0/8"]}}
pipelines: [{name: front, middleware_ids: [stamp]}, {name: nobody, middleware_ids: [stamp, deny], parallel: true}]
`
	g := start(t, config)
	all := g.raw("GET /api/x/y?q HTTP/1.1\r\nHost: a\r\n\r\nGET /api HTTP/1.1\r\nHost: a\r\n\r\nGET /users/7 HTTP/1.1\r\nHost: a\r\n\r\nGET /closed/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "GET", "GET", "GET")
	for i, want := range []string{"GET /x/y?q", "GET /", "GET /v2/u/7", `"code":"FORBIDDEN"`} {
		if got := body(t, all[i]); !strings.Contains(got, want) {
			t.Errorf("response %d: %s", i+1, got)
		}
	}
	if all[0].Header.Get("X-Stamp") != "1" || all[3].Header.Get("X-Stamp") != "1" || all[3].StatusCode != 403 {
		t.Errorf("the response phase is missing: %v, %v", all[0].Header, all[3].Header)
	}
	for path, want := range map[string]int{"/small/x": 413, "/closed/small": 403} {
		res := g.raw("POST "+path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello there", "POST")[0]
		if res.StatusCode != want || res.Header.Get("X-Stamp") != "1" {
			t.Errorf("a body that is too large for %s: %d %v", path, res.StatusCode, res.Header)
		}
	}
}

// TestPathsAreNormalisedOnce sends the same path in several forms: rules must hold for all, and the service must see one.
func TestPathsAreNormalisedOnce(t *testing.T) {
	config := to(echo(t), "") + `---
routes:
  - {name: admin, path: /admin/*, service_id: s, pipeline_id: nobody}
  - {name: umlaut, path: /m%c3%bcller, service_id: s}
  - {name: cut, path: "~/f(?P<rest>.*)", priority: 1, service_id: s, rewrite: {path: "/files/{rest}"}}
  - {name: strip, path: /api/*, service_id: s, rewrite: {prefix: /v1}}
middleware: [{name: deny, type: ip_restriction, order: 2, config: {deny: ["127.0.0.0/8"]}}]
pipelines: [{name: nobody, middleware_ids: [deny]}]
`
	g := start(t, config)
	for path, want := range map[string]string{
		"/admin/x":            "FORBIDDEN",
		"//admin/x":           "FORBIDDEN",
		"/%61dmin//x":         "FORBIDDEN",
		"/a/../admin/x":       "dot segments",
		"/a/..;/admin/x":      "dot segments",
		"/admin%2fx":          "encoded slash",
		"/a%ff":               "not UTF-8",
		"/m%C3%BCller":        "GET /m%C3%BCller",
		"/m%c3%bcller?%c3%b6": "GET /m%C3%BCller?%c3%b6",
		"/api//%7Eann/":       "GET /v1/~ann/",
		"/f1/2":               "GET /files/1/2",
		"/f..":                "once it is rewritten, the path has dot segments",
	} {
		if got := body(t, g.raw("GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	paths := target.DefaultSettings()
	paths.EncodedSlash, paths.EmptySegments = target.Keep, target.Keep
	g = startNode(t, http1.DefaultLimits(), paths, config)
	if got := body(t, g.raw("GET /x%2fy//z HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]); got != "GET /x%2Fy//z" {
		t.Errorf("with other settings: %s", got)
	}
}

// TestClientDiesAnywhere cuts a request at every byte: nothing may be left behind, and the next client gets its own answer.
func TestClientDiesAnywhere(t *testing.T) {
	g := start(t, to(echo(t), ""))
	text := "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	for i := range len(text) {
		c, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, text[:i])
		_ = c.Close()
	}
	if got := body(t, g.raw("GET /mine HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]); got != "GET /mine" {
		t.Errorf("got %q", got)
	}
	waittest.Until(t, "the end of all connections", func() bool { return g.server.Active() == 0 })
}

func TestDrain(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	answer := sync.OnceFunc(func() { close(release) })
	defer answer()
	limits := http1.DefaultLimits()
	limits.LastRequestTimeout = waittest.Limit
	g := startWith(t, limits, to(scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if readRequest(r) {
			close(arrived)
			<-release
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}), ""))
	// refused sends a request that the node answers itself, and reports whether the connection goes on.
	refused := func(c *client) (goesOn bool) {
		c.send("GET /../ HTTP/1.1\r\nHost: a\r\n\r\n")
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		return !res.Close
	}
	idle, probe, fresh, busy := g.client(), g.client(), g.client(), g.client()
	if !refused(idle) {
		t.Fatal("the connection ends before it has to")
	}
	busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	waittest.Receive(t, "the request under way is at the service", arrived)
	_, drained := g.drain()
	waittest.Until(t, "connections end with a request", func() bool { return !refused(probe) })
	if refused(idle) {
		t.Error("an idle connection goes on after its last request")
	}
	if refused(fresh) {
		t.Error("a connection goes on after its first request")
	}
	select {
	case <-drained:
		t.Error("drained while an exchange is under way")
	default:
	}
	answer()
	res, err := http.ReadResponse(busy.r, nil)
	if err != nil || body(t, res) != "ok" || !res.Close {
		t.Errorf("the exchange under way: %v, %v", res, err)
	}
	waittest.Receive(t, "the node is drained", drained)
}

// A connection that brings nothing does not keep a node that drains for longer than its last request may take.
func TestDrainEndsSilentConnections(t *testing.T) {
	limits := http1.DefaultLimits()
	limits.LastRequestTimeout = 10 * time.Millisecond
	g := startWith(t, limits, to(echo(t), ""))
	fresh, idle := g.client(), g.client()
	if got := idle.get("/"); got != "200 GET /" {
		t.Fatal(got)
	}
	_, drained := g.drain()
	waittest.Receive(t, "the node is drained", drained)
	for name, c := range map[string]*client{"fresh": fresh, "idle": idle} {
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Errorf("the connection that is %s: %v", name, err)
		}
	}
}
