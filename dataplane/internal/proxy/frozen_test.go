package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

// frozen is a service that lets everything be sent over HTTP/2, and then takes nothing.
func frozen(t *testing.T, secure *tls.Config) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				if secure != nil {
					c = tls.Server(c, secure)
				}
				if _, err := io.ReadFull(c, make([]byte, len(xhttp2.ClientPreface))); err != nil {
					return
				}
				f := xhttp2.NewFramer(c, nil)
				_ = f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1<<31 - 1})
				_ = f.WriteWindowUpdate(0, 1<<31-1-65535)
				<-over
			})
		}
	})
	t.Cleanup(func() {
		close(over)
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// stuck is less than it takes until a service counts as gone.
const stuck = 14 * time.Second

// A service that takes nothing any more costs nobody more time than the request's own deadline: neither whose request
// it does not take, nor others on the same connection.
func TestFrozenService(t *testing.T) {
	_, _, pair := newAuthority(t).issue("127.0.0.1")
	for _, c := range []struct {
		name, protocol, settings string
		secure                   *tls.Config
	}{
		{"h2c", "h2c", "", nil},
		{"over TLS", "https", ", tls: {insecure_skip_verify: true, http2: true}", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			host, port, _ := net.SplitHostPort(frozen(t, c.secure))
			g := startWith(t, codec.DefaultLimits(),
				fmt.Sprintf(`services: [{name: s, protocol: %s, endpoints: [{host: %s, port: %s}]%s}]
routes: [{name: all, path: /*, service_id: s, policy_id: p}]
policies: [{name: p, timeout: 500ms}]
`, c.protocol, host, port, c.settings))
			for range 2 { // the second time the connection takes nothing from the beginning
				upload, err := net.Dial("tcp", g.address)
				if err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				_ = upload.SetDeadline(begun.Add(waittest.Limit))
				var sender sync.WaitGroup
				sender.Go(func() {
					_, _ = io.WriteString(upload, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 67108864\r\n\r\n")
					for part := make([]byte, 64<<10); ; {
						if _, err := upload.Write(part); err != nil {
							return
						}
					}
				})
				status, _, err := readOne(upload, "POST")
				if took := time.Since(begun); status != 504 || took > stuck {
					t.Errorf("an upload: %d after %s, %v", status, took, err)
				}
				begun = time.Now()
				if status, _ := g.get("/"); status != 504 || time.Since(begun) > stuck {
					t.Errorf("another request: %d after %s", status, time.Since(begun))
				}
				_ = upload.Close()
				sender.Wait()
			}
		})
	}
}

// gated lets nothing be read from its connections until it is opened.
type gated struct {
	net.Listener
	open chan struct{}
}

func (g *gated) Accept() (net.Conn, error) {
	c, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &gatedConn{c, g.open}, nil
}

type gatedConn struct {
	net.Conn
	open chan struct{}
}

func (c *gatedConn) Read(b []byte) (int, error) {
	<-c.open
	return c.Conn.Read(b)
}

// A connection that several requests wait for is opened for all of them: each waits until its own deadline, whoever
// came first.
func TestTimeOfAConnectionForAll(t *testing.T) {
	for _, first := range []string{"/short", "/long"} {
		t.Run(first[1:]+" first", func(t *testing.T) {
			_, _, pair := newAuthority(t).issue("127.0.0.1")
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
			gate := &gated{server.Listener, make(chan struct{})}
			server.Listener = gate
			server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			server.EnableHTTP2 = true
			server.StartTLS()
			t.Cleanup(server.Close)
			open := sync.OnceFunc(func() { close(gate.open) })
			t.Cleanup(open)
			config := overTLS(server.Listener.Addr().String(), "https", "insecure_skip_verify: true, http2: true")
			config = strings.Replace(config, "connect_timeout: 20s", "connect_timeout: 5m", 1)
			g := startWith(t, codec.DefaultLimits(),
				config+"---\nroutes: [{name: short, path: /short, service_id: s, policy_id: p}]\n"+
					"policies: [{name: p, timeout: 300ms}]\n")
			answers := map[string]chan string{"/short": make(chan string, 1), "/long": make(chan string, 1)}
			begun := time.Now()
			ask := func(path string) {
				go func() {
					status, text := g.get(path)
					answers[path] <- fmt.Sprint(status, text[:min(len(text), 8)])
				}()
			}
			ask(first)
			g.pending(1)
			for path := range answers {
				if path != first {
					ask(path)
				}
			}
			g.pending(2)
			if got := waittest.Receive(t, "an answer in the time of one that waits", answers["/short"]); !strings.HasPrefix(got, "504") {
				t.Errorf("%s after %s", got, time.Since(begun))
			}
			open()
			hear(t, answers["/long"], "200HTTP/2.0")
		})
	}
}
