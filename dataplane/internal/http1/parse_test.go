package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
)

func request(text string) (*exchange.Exchange, message, *refusal) {
	x := &exchange.Exchange{}
	m, err := parseRequest([]byte(text), x, 100)
	return x, m, err
}

func TestRequests(t *testing.T) {
	for _, c := range []struct{ text, want string }{ // method path query host length
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / - a 0"},
		{"GET /a?b=c HTTP/1.1\r\nHost: a:80\r\n\r\n", "GET /a b=c a:80 0"},
		{"GET /a? HTTP/1.1\r\nhost:a\r\n\r\n", "GET /a  a 0"},
		{"POST /a HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 5\r\n\r\n", "POST /a - [::1]:80 5"},
		{"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", "POST /a - a -1"},
		{"GET http://b/x HTTP/1.1\r\nHost: B\r\n\r\n", "GET /x - B 0"},
		{"GET http://b?q HTTP/1.1\r\nHost: b\r\n\r\n", "GET / q b 0"},
		{"OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n", "OPTIONS * - b 0"},
		{"GET / HTTP/1.0\r\n\r\n", "GET / -  0"},
		{"M-SEARCH /~x HTTP/1.1\r\nHost: a\r\nX:\t v \t\r\n\r\n", "M-SEARCH /~x - a 0"},
	} {
		x, _, err := request(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		query := "-"
		if x.Request.HasQuery {
			query = x.Request.RawQuery
		}
		got := strings.Join([]string{x.Request.Method, x.Request.Path, query, x.Request.Host, itoa(x.Request.ContentLength)}, " ")
		if got != c.want {
			t.Errorf("%q: got %s, want %s", c.text, got, c.want)
		}
	}
}

func itoa(n int64) string {
	if n < 0 {
		return "-1"
	}
	return string(rune('0' + n))
}

// hostile are requests that two readers could understand differently, or that no client should send.
func hostile() []string {
	return append(hostileConnects(), []string{
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 2\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n",
		"GET / HTTP/1.1\nHost: a\n\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX y: b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX\x0b: b\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
		"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://u@b/ HTTP/1.1\r\nHost: b\r\n\r\n",
		"GET ftp://b/ HTTP/1.1\r\nHost: b\r\n\r\n",
		"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
		"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /a\x80 HTTP/1.1\r\nHost: a\r\n\r\n",
		" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
		"GET / HTTP/1\r\nHost: a\r\n\r\n",
		"GET / HTTP/01.01\r\nHost: a\r\n\r\n",
		"GET / HTTP/ 1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
		"GET / http/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
		"GET /\r\n\r\n",
		"GET / \r\n\r\n",
		"GET\r\n\r\n",
		"\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nExpect: something\r\n\r\n",
		strings.Repeat("A", 40) + " / HTTP/1.1\r\nHost: a\r\n\r\n",
	}...)
}

func TestHostileRequestsAreRefused(t *testing.T) {
	for _, text := range hostile() {
		if _, _, err := request(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	if _, _, err := request("GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: 1\r\n", 101) + "\r\n"); err == nil || err.Code.HTTP() != 431 {
		t.Errorf("too many fields: %v", err)
	}
}

func TestHostileResponsesAreRefused(t *testing.T) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 600 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n",
		"HTTP/1.1 200 O\x00K\r\n\r\n", "HTTP/1.1 200 OK\nX: 1\n\n", "HTTP/1.1 200 OK\r\nX: 1\r\n y\r\n\r\n", "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "nonsense\r\n\r\n", "\r\n\r\n", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		if _, err := parseResponse([]byte(text), &exchange.Exchange{}, "GET", 100, true); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	for text, length := range map[string]int64{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n": 5, "HTTP/1.1 204 \r\n\r\n": 0, "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n": 0,
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n": 0, "HTTP/1.0 200 OK\r\n\r\n": -1, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n": -1,
	} {
		x := &exchange.Exchange{}
		if _, err := parseResponse([]byte(text), x, "GET", 100, true); err != nil || x.Response.ContentLength != length {
			t.Errorf("%q: %d, %v", text, x.Response.ContentLength, err)
		}
	}
}

func TestForwardedRequest(t *testing.T) {
	x, _, err := request("GET /a?b HTTP/1.1\r\nHost: h:1\r\nAccept: */*\r\nConnection: close, X-Drop\r\nX-Drop: 1\r\nX-Keep:  odd \r\nTE: trailers\r\nUpgrade: x\r\nVia: 1.0 other\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nLast: 1\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	x.ID, x.ClientText, x.Scheme, x.Forwarded.Via = "id", "1.2.3.4", "http", "1.1 gateway"
	x.Request.Header.Set("Accept", "text/html")
	want := "GET /a?b HTTP/1.1\r\nHost: h:1\r\nAccept: text/html\r\nX-Keep: odd\r\nLast: 1\r\nX-Forwarded-For: 1.2.3.4\r\n" +
		"X-Forwarded-Proto: http\r\nX-Forwarded-Host: h:1\r\nX-Request-Id: id\r\nVia: 1.0 other, 1.1 gateway\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
	if got := string(appendRequest(nil, x)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestConnectionCantDropFraming(t *testing.T) {
	x, m, err := request("POST / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length, Host, X-Forwarded-For\r\nContent-Length: 3\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n")
	if err != nil || x.Request.ContentLength != 3 || m.length != 3 {
		t.Fatalf("%v, %d", err, x.Request.ContentLength)
	}
	if _, ok := x.Request.Header.Known(exchange.XForwardedFor); !ok {
		t.Error("a client took X-Forwarded-For away")
	}
}

// decode feeds a chunked body in parts.
func decode(parts ...string) (body string, trailer string, done bool, err *refusal) {
	var c chunks
	for _, p := range parts {
		b := []byte(p)
		for len(b) > 0 && !done {
			out, used, over, e := c.next(b)
			if e != nil {
				return body, "", false, e
			}
			body += string(out)
			b, done = b[used:], over
		}
	}
	if done {
		var h exchange.Header
		err = c.trailers(&h, 10)
		for n, v := range h.All() {
			trailer += n + "=" + v + ";"
		}
	}
	return body, trailer, done, err
}

func TestChunks(t *testing.T) {
	whole := "5\r\nhello\r\n06;a=\"b\"\r\n world\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n"
	for i := range len(whole) {
		body, trailer, done, err := decode(whole[:i], whole[i:])
		if err != nil || !done || body != "hello world" || trailer != "X-Sum=1;" {
			t.Fatalf("cut at %d: %q, %q, %v, %v", i, body, trailer, done, err)
		}
	}
	for _, bad := range []string{
		"\r\n", "g\r\n", "5 \r\nhello", "5\nhello", "5\r\nhelloX", "5\r\nhello\rX", "-1\r\n", "0x5\r\nhello", "fffffffffffffffff\r\n", "5\rhello", ";a\r\n",
		"0\r\nX : 1\r\n\r\n", "0\r\nX: 1\r\n y\r\n\r\n", "0\r\n\n", "5;" + strings.Repeat("a", 300) + "\r\n", "5;\x00\r\nhello",
		"5;\r\nhello", "5;bad[=x\r\nhello", "5;=\r\nhello", "5;;;\r\nhello", "5;a=\r\nhello", "5;a=\"b\r\nhello", "5;a \r\nhello", "5;a=b c\r\nhello",
	} {
		if _, _, done, err := decode(bad); err == nil && done {
			t.Errorf("%q was taken", bad)
		} else if err == nil && !strings.HasPrefix(bad, "0\r\n") {
			t.Errorf("%q is waited for", bad)
		}
	}
}

func TestParsingDoesNotAllocate(t *testing.T) {
	head := []byte("GET /users/42?q=1 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: test\r\nAccept: */*\r\nX-Request-Id: abc\r\n\r\n")
	x := &exchange.Exchange{}
	if n := testing.AllocsPerRun(100, func() {
		x.Reset()
		if _, err := parseRequest(head, x, 100); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParseRequest(b *testing.B) {
	head := []byte("GET /api/v1/users/42?expand=orders HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nAccept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\r\n")
	x := &exchange.Exchange{}
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	for b.Loop() {
		x.Reset()
		if _, err := parseRequest(head, x, 100); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzParseRequest holds the parser against net/http's: what is taken here, net/http takes too, and understands in the
// same way.
func FuzzParseRequest(f *testing.F) {
	for _, text := range hostile() {
		f.Add([]byte(text))
	}
	for _, text := range connects() {
		f.Add([]byte(text))
	}
	f.Add([]byte("POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nX: y\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n := headEnd(text, 0)
		if n == 0 {
			return
		}
		head := bytes.Clone(text[:n])
		x := &exchange.Exchange{}
		m, refused := parseRequest(head, x, 100)
		if refused != nil {
			return
		}
		if end, length, simple := peek(text); simple && (end != n || int64(length) != x.Request.ContentLength || m.chunked || m.upgrade) {
			t.Fatalf("a look at the head says that it has %d bytes, and the body %d", end, length)
		}
		std, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(head), strings.NewReader(strings.Repeat("0", 32)))))
		var escape url.EscapeError
		if errors.As(err, &escape) {
			return // the path's escapes are looked at where it is matched
		}
		if err != nil {
			t.Fatalf("net/http refuses what was taken: %v\n%q", err, head)
		}
		if std.Method != x.Request.Method || !m.chunked && std.ContentLength != x.Request.ContentLength && std.ContentLength != -1 || m.chunked != (len(std.TransferEncoding) > 0) {
			t.Fatalf("net/http sees %s, length %d, %v; here %s, %d, chunked %v\n%q", std.Method, std.ContentLength, std.TransferEncoding, x.Request.Method, x.Request.ContentLength, m.chunked, head)
		}
		if x.Request.Method == "CONNECT" {
			if !strings.EqualFold(std.Host, x.Request.Host) || !strings.EqualFold(std.RequestURI, x.Request.Host) || x.Request.Path != "" || m.persistent() {
				t.Fatalf("net/http sees %q as the target; here it is %q, with the path %q, persistent %v\n%q", std.Host, x.Request.Host, x.Request.Path, m.persistent(), head)
			}
			return // it is not forwarded
		}
		x.ID, x.ClientText, x.Scheme, x.Forwarded.Via = "id", "1.2.3.4", "http", "1.1 gateway"
		if x.Request.Host == "" {
			return
		}
		out := appendRequest(nil, x)
		again := &exchange.Exchange{}
		if headEnd(out, 0) != len(out) {
			t.Fatalf("what is forwarded is not one head: %q", out)
		}
		if _, refused := parseRequest(out, again, 200); refused != nil && x.Request.Path != "*" {
			t.Fatalf("what is forwarded is refused: %v\n%q", refused, out)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\nContent-Length: 3\n\n"))
	f.Add([]byte("HTTP/1.1 999 OK\r\nContent-Length: 3, 3\r\nX : y\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 404 \r\nTransfer-Encoding: chunked\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n := headEnd(text, 0)
		if n == 0 {
			return
		}
		x := &exchange.Exchange{}
		m, refused := parseResponse(bytes.Clone(text[:n]), x, "GET", 100, false)
		strict := &exchange.Exchange{}
		sm, strictly := parseResponse(bytes.Clone(text[:n]), strict, "GET", 100, true)
		if (strictly == nil) != (refused == nil && !m.faulty) {
			t.Fatalf("strictly it is refused with %v, otherwise with %v, faulty %v\n%q", strictly, refused, m.faulty, text[:n])
		}
		if refused != nil {
			return
		}
		if m.faulty && m.persistent() {
			t.Fatalf("the connection would be used again after %q", text[:n])
		}
		if strictly == nil && (m.framing.length != sm.framing.length || m.chunked != sm.chunked || strict.Response.Status != x.Response.Status || strict.Response.Header.Len() != x.Response.Header.Len()) {
			t.Fatalf("read in two ways: %q", text[:n])
		}
		std, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(text[:n])), nil)
		if err != nil && laxer(text[:n], err) != "" {
			return
		}
		if err != nil {
			t.Fatalf("net/http refuses what was taken: %v\n%q", err, text[:n])
		}
		if std.StatusCode != x.Response.Status {
			t.Fatalf("net/http sees %d, here %d", std.StatusCode, x.Response.Status)
		}
	})
}

func FuzzChunks(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\n\r\n"), 3)
	f.Add([]byte("5 ; x = \"y\\\"\" ;z\r\nhello\r\n0\r\nA: b\r\n\r\n"), 9)
	f.Add([]byte("5;x=\"y\"\r\nhello\r\n0\r\nA: b\r\n\r\n"), 9)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		cut = max(0, min(cut, len(text)))
		a, trailerA, doneA, errA := decode(string(text))
		b, trailerB, doneB, errB := decode(string(text[:cut]), string(text[cut:]))
		if a != b || trailerA != trailerB || doneA != doneB || (errA == nil) != (errB == nil) {
			t.Fatalf("cut at %d: %q, %v, %v; whole: %q, %v, %v", cut, b, doneB, errB, a, doneA, errA)
		}
	})
}
