package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"gateway.internal/shared/certtest"
)

// authority issues certificates for tests.
type authority struct {
	*certtest.Certificate
	t testing.TB
}

func newAuthority(t testing.TB) *authority { return &authority{certtest.Authority(t), t} }

// issue makes a certificate for names and addresses; without any, one for a client.
func (a *authority) issue(names ...string) (certPEM, keyPEM string, pair tls.Certificate) {
	a.t.Helper()
	c := a.Issue(a.t, names...)
	return c.CertPEM, c.KeyPEM, c.TLS()
}

// secureServer is a server that says how it was spoken to.
type secureServer struct {
	*httptest.Server
	address     string
	connections atomic.Int32
}

func newSecureServer(t testing.TB, c *tls.Config) *secureServer {
	t.Helper()
	s := &secureServer{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		peer := ""
		if len(r.TLS.PeerCertificates) > 0 {
			peer = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		fmt.Fprintf(w, "%s sni=%s resumed=%v peer=%s body=%d version=%x", r.Proto, r.TLS.ServerName, r.TLS.DidResume, peer, len(body), r.TLS.Version)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.TLS = c
	s.StartTLS()
	t.Cleanup(s.Close)
	s.address = s.Listener.Addr().String()
	return s
}

// overTLS returns the configuration of one https service with these tls settings.
func overTLS(address, protocol, settings string) string {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf("services: [{name: s, protocol: %s, endpoints: [{host: %s, port: %s}], tls: {%s}, connection_pool: {response_timeout: 20s, connect_timeout: 20s}}]\nroutes: [{name: all, path: /*, service_id: s}]\n", protocol, host, port, settings)
}

func quoted(pemText string) string { return `"` + strings.ReplaceAll(pemText, "\n", `\n`) + `"` }

func (g *gateway) get(path string) (int, string) {
	g.t.Helper()
	res := g.raw("GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET")[0]
	return res.StatusCode, body(g.t, res)
}

func TestUpstreamTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	_, _, pair := ca.issue("127.0.0.1", "inner.example")
	certPEM, keyPEM, _ := ca.issue()
	server := newSecureServer(t, &tls.Config{Certificates: []tls.Certificate{pair}})
	mutual := newSecureServer(t, &tls.Config{Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()})
	old := newSecureServer(t, &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: tls.VersionTLS12})
	trust := "ca_pem: " + quoted(ca.CertPEM)
	certificate := "certificates: [{name: node, cert_pem: " + quoted(certPEM) + ", key_pem: " + quoted(keyPEM) + "}]\n"
	for _, c := range []struct {
		name, address, settings, extra string
		status                         int
		want, logged                   string
	}{
		{"the authority that is trusted", server.address, trust, "", 200, "HTTP/1.1 sni= ", ""},
		{"a name of its own", server.address, trust + ", server_name: inner.example", "", 200, "sni=inner.example", ""},
		{"system roots only", server.address, "", "", 502, "UPSTREAM_TLS", "certificate signed by unknown authority"},
		{"another authority", server.address, "ca_pem: " + quoted(other.CertPEM), "", 502, "UPSTREAM_TLS",
			"unknown authority"},
		{"another name", server.address, trust + ", server_name: outer.example", "", 502, "UPSTREAM_TLS", "outer.example"},
		{"no verification", server.address, "insecure_skip_verify: true", "", 200, "HTTP/1.1", ""},
		{"a client certificate", mutual.address, trust + ", certificate_id: node", certificate, 200, "peer=test", ""},
		{"no client certificate", mutual.address, trust, "", 502, "UPSTREAM", ""},
		{"an old version", old.address, trust, "", 200, "version=303", ""},
		{"too old a version", old.address, trust + `, min_version: "1.3"`, "", 502, "UPSTREAM_TLS", "protocol version"},
		{"no TLS at all", echo(t), trust, "", 502, "UPSTREAM_TLS", "does not look like a TLS handshake"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, overTLS(c.address, "https", c.settings)+c.extra)
			status, text := g.get("/")
			if status != c.status || !strings.Contains(text, c.want) {
				t.Errorf("got %d %s", status, text)
			}
			if !strings.Contains(g.log.String(), c.logged) {
				t.Errorf("%q is not in the log:\n%s", c.logged, g.log)
			}
			if c.logged != "" && strings.Contains(text, c.logged) {
				t.Errorf("the client is told %s", text)
			}
		})
	}
}

func TestUpstreamTLSConnections(t *testing.T) {
	ca := newAuthority(t)
	_, _, pair := ca.issue("127.0.0.1", "inner.example")
	server := newSecureServer(t, &tls.Config{Certificates: []tls.Certificate{pair}})
	trust := "ca_pem: " + quoted(ca.CertPEM)
	g := start(t, overTLS(server.address, "https", trust))
	for _, res := range g.raw(strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 5), "GET", "GET", "GET", "GET", "GET") {
		if res.StatusCode != 200 {
			t.Fatalf("got %d %s", res.StatusCode, body(t, res))
		}
	}
	if n := server.connections.Load(); n != 1 {
		t.Errorf("5 requests took %d connections", n)
	}
	server.CloseClientConnections()
	if status, text := g.get("/"); status != 200 || !strings.Contains(text, "resumed=true") {
		t.Errorf("after a reconnect: %d %s", status, text)
	}
	// Other settings are for every request from then on, also where a connection is open.
	g.apply(overTLS(server.address, "https", trust+", server_name: inner.example"))
	if status, text := g.get("/"); status != 200 || !strings.Contains(text, "sni=inner.example") {
		t.Errorf("after a change: %d %s", status, text)
	}
	g.apply(overTLS(server.address, "https", trust+", server_name: outer.example"))
	if status, text := g.get("/"); status != 502 || !strings.Contains(text, "UPSTREAM_TLS") {
		t.Errorf("after a change that can't be met: %d %s", status, text)
	}
	g.apply(overTLS(server.address, "https", trust))
	big := strings.Repeat("0123456789abcdef", 50_000)
	res := g.raw(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(big), big), "POST")[0]
	if text := body(t, res); !strings.Contains(text, fmt.Sprint("body=", len(big))) {
		t.Errorf("a large body: %s", text)
	}
}

// heldWrites collects what is written and sends it at once.
type heldWrites struct {
	net.Conn
	hold bool
	b    []byte
}

func (h *heldWrites) Write(p []byte) (int, error) {
	if !h.hold {
		return h.Conn.Write(p)
	}
	h.b = append(h.b, p...)
	return len(p), nil
}

func (h *heldWrites) release() {
	_, _ = h.Conn.Write(h.b)
	h.hold, h.b = false, nil
}

// TestUnaskedBytesOverTLS lets the service send a second response, in the same TLS record and in another one.
func TestUnaskedBytesOverTLS(t *testing.T) {
	ca := newAuthority(t)
	_, _, pair := ca.issue("127.0.0.1")
	for _, apart := range []bool{false, true} {
		address := scripted(t, func(_ int, nc net.Conn, _ *bufio.Reader) {
			held := &heldWrites{Conn: nc}
			c := tls.Server(held, &tls.Config{Certificates: []tls.Certificate{pair}})
			r := bufio.NewReader(c)
			mine, poison := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
			for readRequest(r) {
				if apart {
					held.hold = true
					_, _ = io.WriteString(c, mine)
					_, _ = io.WriteString(c, poison)
					held.release()
				} else {
					_, _ = io.WriteString(c, mine+poison)
				}
			}
		})
		g := start(t, overTLS(address, "https", "ca_pem: "+quoted(ca.CertPEM)))
		for range 20 {
			if _, text := g.get("/"); text != "mine" {
				t.Fatalf("in two records %v: got %q", apart, text)
			}
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "over a Unix socket for ", r.Host) })}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	g := start(t, "services: [{name: s, endpoints: [{host: \"unix:"+path+"\"}]}]\nroutes: [{name: all, path: /*, service_id: s}]\n")
	for range 3 {
		if status, text := g.get("/"); status != 200 || text != "over a Unix socket for a" {
			t.Fatalf("got %d %s", status, text)
		}
	}
	_ = os.Remove(path)
}
