package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

// A service that stalls is given no more time where the exchange has changed its goroutine, its connection or its
// endpoint before.
func TestStalledService(t *testing.T) {
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			answer := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwhol"
			switch req.URL.Path {
			case "/nothing":
				answer = ""
			case "/half-a-head":
				answer = "HTTP/1.1 200 OK\r\nContent-"
			case "/head":
				answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
			case "/half-a-body":
				answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"
			case "/interim":
				answer = "HTTP/1.1 103 Early Hints\r\n\r\n"
			case "/chunks":
				answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			}
			_, _ = io.WriteString(c, answer)
			if req.URL.Path != "/" {
				_, _ = r.ReadByte() // until the gateway has had enough
				return
			}
		}
	})
	for _, c := range []struct{ name, limits string }{
		{"the time for a response", "policies: [{name: p, timeout: 5m}]"},
		{"the time for all", "policies: [{name: p, timeout: 400ms}]"},
	} {
		for _, path := range []string{"/nothing", "/half-a-head", "/head", "/half-a-body", "/interim", "/chunks"} {
			t.Run(c.name+path, func(t *testing.T) {
				t.Parallel()
				config := to(service, "")
				config = config[:strings.Index(config, "policies:")] + c.limits + "\n"
				if c.name == "the time for a response" {
					config = respondingWithin("500ms", config)
				} else {
					config = respondingWithin("5m", config)
				}
				g := start(t, config)
				client := g.client()
				for range 3 { // in a loop it is from the second request on
					if got := client.get("/"); got != "200 whol" {
						t.Fatal(got)
					}
				}
				begun := time.Now()
				client.send("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
				var said string
				for {
					res, err := http.ReadResponse(client.r, nil)
					if err != nil {
						t.Fatal(err)
					}
					_, err = io.ReadAll(res.Body)
					if said += fmt.Sprint(res.StatusCode); err != nil {
						said += " cut"
					}
					if res.StatusCode >= 200 {
						break
					}
				}
				want := map[string]string{"/interim": "103504", "/half-a-body": "200 cut", "/chunks": "200 cut"}[path]
				if want == "" {
					want = "504"
				}
				if took := time.Since(begun); said != want || took > waittest.Limit {
					t.Errorf("%s after %s, want %s after half a second", said, took, want)
				}
			})
		}
	}
}

// A client that takes nothing of its responses has the time to do so that it would have outside of a loop.
func TestClientThatTakesNothingInALoop(t *testing.T) {
	page := strings.Repeat("x", 15_000)
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for readRequest(r) {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(page), page)
		}
	})
	g := startInLoops(t, to(service, ""), func(l *codec.Limits) { l.WriteTimeout, l.MinRate = 300*time.Millisecond, 0 })
	c := g.client()
	if got := c.get("/"); got != "200 "+page {
		t.Fatalf("%.40s", got)
	}
	_ = c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	go func() {
		for { // until it is cut
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
				return
			}
		}
	}()
	begun := time.Now()
	waittest.Until(t, "the client has its connection no more", func() bool { return g.server.Active() == 0 })
	if took := time.Since(begun); took > 20*time.Second { // a client that may still read is waited for, for half a minute
		t.Errorf("it has had its connection for %s", took)
	}
}

// An endpoint that is asked instead of another one has as much time as the other one had.
func TestTimeOfTheNextEndpoint(t *testing.T) {
	const connect = 880 * time.Millisecond
	ca := newAuthority(t)
	_, _, pair := ca.issue("127.0.0.1")
	healthy := newSecureServer(t, &tls.Config{Certificates: []tls.Certificate{pair}})
	silent := scripted(t, func(_ int, _ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
	port := func(address string) string { return address[strings.LastIndex(address, ":")+1:] }
	g := start(t, fmt.Sprintf(`services: [{name: s, protocol: https, endpoints: [{host: 127.0.0.1, port: %s}, {host: 127.0.0.1, port: %s}],
  tls: {insecure_skip_verify: true}, connection_pool: {response_timeout: 800ms, connect_timeout: %s}}]
routes: [{name: all, path: /*, service_id: s}]
`, port(silent), port(healthy.address), connect))
	for range 4 { // the healthy one has an idle connection from the first or the second on
		waittest.UntilNil(t, "the healthy one answers", func() error {
			begun := time.Now()
			status, text := g.get("/")
			if status == 200 {
				return nil
			}
			// On a busy machine the second one may be late too, after a whole time of its own.
			if took := time.Since(begun); took < 2*connect {
				t.Errorf("%d %s after %s", status, text, took)
				return nil
			}
			return fmt.Errorf("%d %s", status, text)
		})
	}
}
