package proxy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/waittest"
)

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

// TestPathsAreNormalisedOnce sends the same path in several forms: rules must hold for all, and the service must see
// one.
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
	paths := pathnorm.DefaultSettings()
	paths.EncodedSlash, paths.EmptySegments = pathnorm.Keep, pathnorm.Keep
	g = startNode(t, codec.DefaultLimits(), paths, config)
	if got := body(t, g.raw("GET /x%2fy//z HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]); got != "GET /x%2Fy//z" {
		t.Errorf("with other settings: %s", got)
	}
}

// TestClientDiesAnywhere cuts a request at every byte: nothing may be left behind, and the next client gets its own
// answer.
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
