package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

// gate stands before a node where the ACME server comes to validate hosts, and can hold it up.
type gate struct {
	port int
	came chan string   // paths that were asked for
	open chan struct{} // requests go through once it is closed
}

func newGate(t testing.TB, node *string) *gate {
	t.Helper()
	g := &gate{came: make(chan string, 1000), open: make(chan struct{})}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.came <- r.URL.Path
		<-g.open
		to := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: *node})
		to.ServeHTTP(w, r) // with the Host that it came with
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	g.port, _ = strconv.Atoi(u.Port())
	return g
}

// presented connects to a node and returns the certificate that it presents for a host, verified.
func (n *node) presented(roots *x509.CertPool, host string) (*tls.Conn, *x509.Certificate, error) {
	c, err := tls.Dial("tcp", n.https, &tls.Config{RootCAs: roots, ServerName: host})
	if err != nil {
		return nil, nil, err
	}
	return c, c.ConnectionState().PeerCertificates[0], nil
}

// awaitCertificate waits until the certificate of a host is another one than before.
func (n *node) awaitCertificate(roots *x509.CertPool, host string, before *x509.Certificate) *x509.Certificate {
	n.t.Helper()
	var leaf *x509.Certificate
	waittest.UntilNil(n.t, "a certificate for "+host, func() error {
		c, got, err := n.presented(roots, host)
		if err != nil {
			return err
		}
		_ = c.Close()
		if before != nil && before.Equal(got) {
			return fmt.Errorf("it is still the one until %s", got.NotAfter)
		}
		leaf = got
		return nil
	})
	return leaf
}

// challenges returns the routes that answer challenges.
func (g *gateway) challenges() (routes []string) {
	g.t.Helper()
	data, _, err := g.call("GET", "/api/v1/config/routes?labels=managed-by=acme", "")
	if err != nil {
		g.t.Fatal(err)
	}
	var list []struct{ Name string }
	if err := json.Unmarshal(data, &list); err != nil {
		g.t.Fatalf("%s: %v", data, err)
	}
	for _, r := range list {
		routes = append(routes, r.Name)
	}
	return routes
}

func (g *gateway) awaitNoChallenge() {
	g.t.Helper()
	waittest.UntilNil(g.t, "the end of the challenges", func() error {
		if left := g.challenges(); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
}

// TestACME has certificates obtained and renewed by a real ACME server, with a control plane that is killed in the
// middle of an order.
func TestACME(t *testing.T) {
	at := ""
	gate := newGate(t, &at)
	pebble := testserver.NewPebble(t, gate.port, map[string]time.Duration{"lasting": 90 * 24 * time.Hour, "brief": 30 * time.Second})
	g := newGateway(t, "--acme", "--acme-agree-tos", "--acme-directory", pebble.Directory, "--acme-ca-file", pebble.CAFile, "--acme-contact", "ops@shop.example", "--log-level", "debug")
	n := g.node("n1")
	at = n.http
	wish := `certificates:
  - {name: shop, hosts: [shop.example, www.shop.example], acme: {profile: lasting}}
routes:
  - {name: hello, path: /*, direct_response: {body: hello}}
`
	if out := g.must(wish, "apply", "-f", "-"); !strings.Contains(out, "2 created") {
		t.Errorf("apply:\n%s", out)
	}

	// While the server validates, the control plane dies. The nodes go on; so does the order when it is back.
	if path := <-gate.came; !strings.HasPrefix(path, "/.well-known/acme-challenge/") {
		t.Fatalf("the server asks for %s", path)
	}
	if left := g.challenges(); len(left) != 2 {
		t.Errorf("challenges for two hosts: %v", left)
	}
	if g.mustReapply(wish) {
		t.Error("applying the file again while the certificate is ordered changes something")
	}
	if out := g.must("", "export"); strings.Contains(out, "acme-challenge") {
		t.Errorf("challenges are exported:\n%s", out)
	}
	g.control.kill()
	close(gate.open)
	g.control.start()
	g.ready()
	shop := n.awaitCertificate(pebble.Roots, "shop.example", nil)
	n.awaitCertificate(pebble.Roots, "www.shop.example", nil)
	g.awaitNoChallenge()
	if _, _, err := n.presented(pebble.Roots, "other.example"); err == nil {
		t.Error("a host without a certificate is served")
	}

	// A certificate that lasts 30 seconds is renewed, and no connection breaks.
	brief := wish + "# more\n---\ncertificates:\n  - {name: brief, hosts: [brief.example, 127.0.0.1], acme: {profile: brief, key_type: ecdsa-p384}}\n"
	g.must(brief, "apply", "-f", "-", "--prune")
	first := n.awaitCertificate(pebble.Roots, "brief.example", nil)
	c, _, err := n.presented(pebble.Roots, "brief.example")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	second := n.awaitCertificate(pebble.Roots, "brief.example", first)
	n.awaitCertificate(pebble.Roots, "127.0.0.1", nil)
	if second.NotAfter.Sub(first.NotAfter) < 5*time.Second {
		t.Errorf("renewed from %s to %s: that is a loop", first.NotAfter, second.NotAfter)
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: brief.example\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 200 {
		t.Errorf("on a connection from before the renewal: %v, %v", res, err)
	}
	if again := n.awaitCertificate(pebble.Roots, "shop.example", nil); !again.Equal(shop) {
		t.Error("the other certificate was obtained again")
	}

	// What is said and what is not.
	metrics := mustGet(t, "http://"+g.rest+"/metrics")
	for _, want := range []string{`gateway_certificate_expiry_seconds{certificate="shop"} 7.7`, `gateway_acme_orders_total{outcome="failed"} 0`, "gateway_acme_leading 1"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics have no %s", want)
		}
	}
	if g.mustReapply(brief) {
		t.Error("applying the file again changes something")
	}
	if out, code := g.ctl(brief, "diff", "-f", "-", "--prune"); code != 0 {
		t.Errorf("diff: %d\n%s", code, out)
	}
	data, _, err := g.call("GET", "/api/v1/config/certificates/shop", "")
	if err != nil || !strings.Contains(string(data), pebble.Directory) {
		t.Errorf("where it is from is not told: %s, %v", data, err)
	}
	history := g.must("", "revisions")
	if !strings.Contains(history, "certificate shop obtained from "+pebble.Directory) {
		t.Errorf("revisions:\n%s", history)
	}
	export := g.must("", "export")
	for what, text := range map[string]string{"REST": string(data), "export": export, "history": history, "log": g.control.logs(), "the node's log": n.logs()} {
		if strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("%s has a private key", what)
		}
	}
	if strings.Contains(export, "BEGIN") || g.mustReapply(export) {
		t.Errorf("export is not what was wished:\n%s", export)
	}

	// A rollback to before there was anything takes nothing away that was obtained.
	g.must("", "rollback", "1")
	if again := n.awaitCertificate(pebble.Roots, "shop.example", nil); !again.Equal(shop) {
		t.Error("a rollback brought another certificate")
	}
	if code := g.control.terminate(); code != 0 {
		t.Errorf("the control plane ended with %d", code)
	}
}

func mustGet(t testing.TB, url string) string {
	t.Helper()
	code, text := get(t, url)
	if code != 200 {
		t.Fatalf("%s: %d %s", url, code, text)
	}
	return text
}
