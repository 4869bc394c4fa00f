package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

// h2Server serves HTTP/2 without TLS, and nothing else.
type h2Server struct {
	*httptest.Server
	address     string
	connections atomic.Int32
}

func newH2Server(t testing.TB, settings *http.HTTP2Config, handler http.Handler) *h2Server {
	t.Helper()
	s := &h2Server{Server: httptest.NewUnstartedServer(handler)}
	s.Config.Protocols = &http.Protocols{}
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.HTTP2 = settings
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	s.address = s.Listener.Addr().String()
	return s
}

// speaking returns the configuration of one service of a protocol.
func speaking(protocol, address, pool string) string {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf("services: [{name: s, protocol: %s, endpoints: [{host: %s, port: %s}], connection_pool: {response_timeout: 20s, connect_timeout: 20s%s}}]\nroutes: [{name: all, path: /*, service_id: s}]\n", protocol, host, port, pool)
}

func tellAll(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	w.Header().Set("Trailer", "X-Sum")
	w.Header().Set("X-Seen", fmt.Sprintf("%s %s %s host=%s length=%d for=%q via=%q te=%q err=%v", r.Proto, r.Method, r.URL.RequestURI(), r.Host, r.ContentLength,
		r.Header.Get("X-Forwarded-For"), r.Header.Get("Via"), r.Header.Get("Te"), err))
	_, _ = w.Write(body)
	w.Header().Set("X-Sum", fmt.Sprint(len(body)))
}

func TestUpstreamHTTP2(t *testing.T) {
	server := newH2Server(t, nil, http.HandlerFunc(tellAll))
	g := start(t, speaking("h2c", server.address, ""))
	for _, c := range []struct{ request, method, seen, body string }{
		{"GET /a?b=c HTTP/1.1\r\nHost: x.example\r\n\r\n", "GET", `HTTP/2.0 GET /a?b=c host=x.example length=0 for="127.0.0.1" via="1.1 gateway"`, ""},
		{"GET /? HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\nVia: 1.0 a\r\nTE: trailers\r\nConnection: TE\r\n\r\n", "GET", `GET /? host=x length=0 for="127.0.0.1" via="1.0 a, 1.1 gateway" te="trailers"`, ""},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "POST", "POST / host=x length=3", "abc"},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "POST", "POST / host=x length=0", ""},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-In: 5\r\n\r\n", "POST", "POST / host=x length=-1", "abc"},
		{"OPTIONS /o HTTP/1.1\r\nHost: x\r\n\r\n", "OPTIONS", "HTTP/2.0 OPTIONS /o", ""},
		{"HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD", "HTTP/2.0 HEAD /h", ""},
	} {
		res := g.raw(c.request, c.method)[0]
		text := body(t, res)
		if seen := res.Header.Get("X-Seen"); res.StatusCode != 200 || !strings.Contains(seen, c.seen) || !strings.Contains(seen, "err=<nil>") || text != c.body {
			t.Errorf("%q: %d %q, the service saw %s", c.request, res.StatusCode, text, seen)
		}
	}
	if n := server.connections.Load(); n != 1 {
		t.Errorf("one after another took %d connections", n)
	}
}

func TestUpstreamHTTP2Bodies(t *testing.T) {
	server := newH2Server(t, nil, http.HandlerFunc(tellAll))
	g := startWith(t, codec.DefaultLimits(), speaking("h2c", server.address, ""))
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB: many windows
	for _, transport := range []*http.Transport{{}, func() *http.Transport {
		p := &http.Protocols{}
		p.SetUnencryptedHTTP2(true)
		return &http.Transport{Protocols: p}
	}()} {
		client := &http.Client{Transport: transport, Timeout: waittest.Limit}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				res, err := client.Post("http://"+g.address+"/", "text/plain", bytes.NewReader(payload))
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				got, err := io.ReadAll(res.Body)
				if err != nil || !bytes.Equal(got, payload) || res.Trailer.Get("X-Sum") != fmt.Sprint(len(payload)) {
					t.Errorf("%d: %d bytes came back, trailer %v, %v", res.StatusCode, len(got), res.Trailer, err)
				}
			})
		}
		wg.Wait()
		transport.CloseIdleConnections()
	}
}

// A service that allows few streams gets more connections, up to the pool's limit, and no more requests at once than it
// allows.
func TestUpstreamHTTP2Concurrency(t *testing.T) {
	var now, most atomic.Int32
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	server := newH2Server(t, &http.HTTP2Config{MaxConcurrentStreams: 2}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/first" {
			return
		}
		most.Store(max(most.Load(), now.Add(1))) // one comes after the other
		entered <- struct{}{}
		<-release
		now.Add(-1)
	}))
	g := start(t, speaking("h2c", server.address, ", max_connections: 3, max_pending: 0"))
	if status, text := g.get("/first"); status != 200 {
		t.Fatal(status, text)
	}
	results := make(chan int, 10)
	got := map[int]int{}
	for range 10 { // 4 are beyond 3 connections with 2 requests each
		go func() {
			status, _ := g.get("/hold")
			results <- status
		}()
		select {
		case <-entered:
		case status := <-results:
			got[status]++
		}
	}
	close(release)
	for range 6 {
		got[<-results]++
	}
	if got[200] != 6 || got[503] != 4 || server.connections.Load() != 3 || most.Load() != 6 {
		t.Errorf("statuses %v on %d connections, %d requests at once", got, server.connections.Load(), most.Load())
	}
}

func TestUpstreamByALPN(t *testing.T) {
	ca := newAuthority(t)
	_, _, pair := ca.issue("127.0.0.1")
	both := newSecureServer(t, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}})
	one := newSecureServer(t, &tls.Config{Certificates: []tls.Certificate{pair}})
	for _, c := range []struct{ name, protocol, address, settings, want string }{
		{"chosen", "https", both.address, "http2: true", "HTTP/2.0"},
		{"not offered", "https", both.address, "", "HTTP/1.1"},
		{"not chosen", "https", one.address, "http2: true", "HTTP/1.1"},
		{"required", "grpcs", both.address, "", "HTTP/2.0"},
		{"required and not chosen", "grpcs", one.address, "", "UPSTREAM_TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			settings := "ca_pem: " + quoted(ca.CertPEM)
			if c.settings != "" {
				settings += ", " + c.settings
			}
			g := start(t, overTLS(c.address, c.protocol, settings))
			for range 3 {
				if _, text := g.get("/"); !strings.Contains(text, c.want) {
					t.Errorf("got %s", text)
				}
			}
		})
	}
}

// framed is a server that a test writes frame by frame.
type framed struct {
	*xhttp2.Framer
	conn net.Conn
}

func newFramed(t *testing.T, serve func(n int, f *framed)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 1; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(waittest.Deadline())
				if _, err := io.ReadFull(c, make([]byte, len(xhttp2.ClientPreface))); err != nil {
					return
				}
				f := &framed{xhttp2.NewFramer(c, c), c}
				f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
				_ = f.WriteSettings()
				serve(n, f)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// next returns the stream of the next request whose head comes; 0 when the connection is over.
func (f *framed) next() uint32 {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return 0
		}
		if h, ok := fr.(*xhttp2.MetaHeadersFrame); ok {
			return h.StreamID
		}
	}
}

// drain reads until the connection is over.
func (f *framed) drain() {
	for f.next() != 0 {
	}
}

func (f *framed) head(stream uint32, end bool, fields ...string) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: stream, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: end})
}

func TestUpstreamHTTP2Scripts(t *testing.T) {
	get, post := "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
	for _, c := range []struct {
		name, request string
		serve         func(n int, f *framed)
		status        int
		want          string
	}{
		{"interim responses", get, func(_ int, f *framed) {
			s := f.next()
			f.head(s, false, ":status", "103", "link", "</a>")
			f.head(s, false, ":status", "200")
			_ = f.WriteData(s, true, []byte("ok"))
			f.drain()
		}, 200, "ok"},
		{"refused, and not processed: sent again", post, func(n int, f *framed) {
			s := f.next()
			if s == 1 {
				_ = f.WriteRSTStream(s, xhttp2.ErrCodeRefusedStream)
				s = f.next()
			}
			f.head(s, true, ":status", "204")
			f.drain()
		}, 204, ""},
		{"refused on a connection that ends with the next attempt: sent again on another one", get, func(n int, f *framed) {
			s := f.next()
			if n == 1 {
				_ = f.WriteRSTStream(s, xhttp2.ErrCodeRefusedStream)
				f.next()
				_ = f.WriteGoAway(s, xhttp2.ErrCodeNo, nil)
				return
			}
			f.head(s, true, ":status", "204")
			f.drain()
		}, 204, ""},
		{"gone away before it was processed: sent again on another connection", post, func(n int, f *framed) {
			s := f.next()
			if n == 1 {
				_ = f.WriteGoAway(0, xhttp2.ErrCodeNo, nil)
			} else {
				f.head(s, true, ":status", "204")
			}
			f.drain()
		}, 204, ""},
		{"gone away, and answered", post, func(_ int, f *framed) {
			s := f.next()
			_ = f.WriteGoAway(s, xhttp2.ErrCodeNo, nil)
			f.head(s, true, ":status", "204")
			f.drain()
		}, 204, ""},
		{"reset without processing told", post, func(_ int, f *framed) {
			_ = f.WriteRSTStream(f.next(), xhttp2.ErrCodeInternal)
			f.drain()
		}, 502, "UPSTREAM_UNAVAILABLE"},
		{"answered without a look at the body, and reset", post, func(_ int, f *framed) {
			s := f.next()
			f.head(s, true, ":status", "403")
			_ = f.WriteRSTStream(s, xhttp2.ErrCodeNo)
			f.drain()
		}, 403, ""},
		{"the connection breaks", post, func(_ int, f *framed) { f.next() }, 502, "UPSTREAM_UNAVAILABLE"},
		{"no status", get, func(_ int, f *framed) {
			f.head(f.next(), true, "a", "b")
			f.drain()
		}, 502, "UPSTREAM_INVALID_RESPONSE"},
		{"a body without a head", get, func(_ int, f *framed) {
			_ = f.WriteData(f.next(), true, []byte("ok"))
		}, 502, "UPSTREAM_INVALID_RESPONSE"},
		{"a field of HTTP/1", get, func(_ int, f *framed) {
			f.head(f.next(), true, ":status", "200", "connection", "close")
			f.drain()
		}, 502, "UPSTREAM_INVALID_RESPONSE"},
		{"a line break in a value", get, func(_ int, f *framed) {
			f.head(f.next(), true, ":status", "200", "a", "b\r\nc: d")
			f.drain()
		}, 502, "UPSTREAM_INVALID_RESPONSE"},
		{"switching protocols", get, func(_ int, f *framed) {
			f.head(f.next(), false, ":status", "101")
			f.drain()
		}, 502, "UPSTREAM_INVALID_RESPONSE"},
		{"a body that is too long", get, func(_ int, f *framed) {
			s := f.next()
			f.head(s, false, ":status", "200", "content-length", "1")
			_ = f.WriteData(s, true, []byte("ok"))
			f.drain()
		}, 200, "broken"},
		{"a body that ends too early", get, func(_ int, f *framed) {
			s := f.next()
			f.head(s, false, ":status", "200", "content-length", "3")
			_ = f.WriteData(s, true, []byte("ok"))
			f.drain()
		}, 200, "broken"},
		{"a connection that ends within a body of unknown length", get, func(_ int, f *framed) {
			s := f.next()
			f.head(s, false, ":status", "200")
			_ = f.WriteData(s, false, []byte("ok"))
		}, 200, "broken"},
		{"a stream that is reset within a body", get, func(_ int, f *framed) {
			s := f.next()
			f.head(s, false, ":status", "200")
			_ = f.WriteData(s, false, []byte("ok"))
			_ = f.WriteRSTStream(s, xhttp2.ErrCodeNo)
			f.drain()
		}, 200, "broken"},
		{"a response to a stream that nobody opened", get, func(_ int, f *framed) {
			f.head(f.next()+2, true, ":status", "200")
			f.drain()
		}, 502, "UPSTREAM_UNAVAILABLE"},
		{"a push", get, func(_ int, f *framed) {
			_ = f.WritePushPromise(xhttp2.PushPromiseParam{StreamID: f.next(), PromiseID: 2, EndHeaders: true})
			f.drain()
		}, 502, "UPSTREAM_UNAVAILABLE"},
		{"no answer", get, func(_ int, f *framed) {
			f.next()
			f.drain()
		}, 504, "UPSTREAM_TIMEOUT"},
		{"a HEAD with a length", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", func(_ int, f *framed) {
			f.head(f.next(), true, ":status", "200", "content-length", "3")
			f.drain()
		}, 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, respondingWithin("300ms", speaking("h2c", newFramed(t, c.serve), "")))
			conn, err := net.Dial("tcp", g.address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(waittest.Deadline())
			_, _ = io.WriteString(conn, c.request)
			status, text, err := readOne(conn, strings.Fields(c.request)[0])
			if c.want == "broken" {
				if err == nil && status != 502 {
					t.Errorf("a broken response arrived as %d %q", status, text)
				}
				return
			}
			if err != nil || status != c.status || !strings.Contains(text, c.want) {
				t.Errorf("got %d %q, %v", status, text, err)
			}
		})
	}
	t.Run("HTTP/1.1", func(t *testing.T) {
		g := start(t, speaking("h2c", echo(t), ""))
		if status, text := g.get("/"); status != 502 || !strings.Contains(text, "UPSTREAM_UNAVAILABLE") {
			t.Errorf("got %d %s", status, text)
		}
	})
}

// Clients that take nothing of their responses do not hold up others on the same connection.
func TestUpstreamHTTP2SlowStream(t *testing.T) {
	const size = 4 << 20
	server := newH2Server(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = w.Write(make([]byte, size))
			return
		}
		_, _ = io.WriteString(w, "ok")
	}))
	g := start(t, speaking("h2c", server.address, ", max_connections: 1"))
	var slow []*http.Response
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range 20 { // none of these is read
		res, err := client.Get("http://" + g.address + "/large")
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, res)
	}
	if status, text := g.get("/small"); status != 200 || text != "ok" {
		t.Errorf("behind slow clients: %d %s", status, text)
	}
	for _, res := range slow {
		if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
			t.Errorf("a slow client got %d bytes, %v", n, err)
		}
		_ = res.Body.Close()
	}
	if n := server.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// readOne reads a response.
func readOne(c io.Reader, method string) (int, string, error) {
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	for err == nil && res.StatusCode < 200 {
		res, err = http.ReadResponse(r, &http.Request{Method: method})
	}
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}
