package proxy

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"gateway.internal/shared/waittest"
)

// indented makes a text a block of YAML.
func indented(text string) string {
	return "|\n      " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n      ")
}

// certificateOf is a certificate of the configuration.
func certificateOf(name, certPEM, keyPEM, extra string) string {
	return fmt.Sprintf("  - name: %s\n    cert_pem: %s\n    key_pem: %s\n%s", name, indented(certPEM), indented(keyPEM), extra)
}

// clientAuth is what a certificate of the configuration says of clients' certificates.
func clientAuth(mode string, ca *authority) string {
	return fmt.Sprintf("    client_auth: {mode: %s, ca_pem: %s}\n", mode, quoted(ca.CertPEM))
}

// overTLS sends a request for a host and returns the response with its body.
func (g *gateway) overTLS(config *tls.Config, host, extra string) (*http.Response, string, tls.ConnectionState, error) {
	g.t.Helper()
	c, err := tls.Dial("tcp", g.secure.Addr().String(), config)
	if err != nil {
		return nil, "", tls.ConnectionState{}, err
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n%s\r\n", host, extra); err != nil {
		return nil, "", c.ConnectionState(), err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, "", c.ConnectionState(), err
	}
	text, err := io.ReadAll(res.Body)
	return res, string(text), c.ConnectionState(), err
}

// showing answers with the head of the request that it got.
func showing(t *testing.T) string {
	return scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			var b strings.Builder
			_ = req.Header.Write(&b)
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", b.Len(), b.String())
		}
	})
}

func TestTLSChoosesByName(t *testing.T) {
	ca := newAuthority(t)
	aCert, aKey, _ := ca.issue("a.example")
	wCert, wKey, _ := ca.issue("*.wild.example")
	dCert, dKey, _ := ca.issue("default.example", "127.0.0.1")
	config := to(showing(t), "")
	withAll := config + "certificates:\n" + certificateOf("a", aCert, aKey, "") + certificateOf("w", wCert, wKey, "    min_version: \"1.3\"\n") + certificateOf("d", dCert, dKey, "    default: true\n")
	g := start(t, withAll)
	for _, c := range []struct {
		name, verify string
		max          uint16
		fails        bool
	}{
		{"a.example", "a.example", tls.VersionTLS12, false},
		{"A.EXAMPLE", "a.example", 0, false},
		{"x.wild.example", "x.wild.example", 0, false},
		{"x.wild.example", "x.wild.example", tls.VersionTLS12, true},
		{"x.y.wild.example", "x.wild.example", 0, false},
		{"wild.example", "default.example", 0, false},
		{"", "127.0.0.1", 0, false},
	} {
		conf := &tls.Config{RootCAs: ca.Pool(), ServerName: c.name, MaxVersion: c.max, InsecureSkipVerify: true}
		_, text, state, err := g.overTLS(conf, "a.example", "")
		if (err != nil) != c.fails {
			t.Errorf("%q: %v", c.name, err)
		}
		if err != nil {
			continue
		}
		if err := state.PeerCertificates[0].VerifyHostname(c.verify); err != nil {
			t.Errorf("%q: %v", c.name, err)
		}
		if !strings.Contains(text, "X-Forwarded-Proto: https") {
			t.Errorf("%q: the service got %s", c.name, text)
		}
	}
	// Another certificate for the name takes effect for the next connection, and an open one goes on.
	conn, err := tls.Dial("tcp", g.secure.Addr().String(), &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	bCert, bKey, _ := ca.issue("a.example", "new.example")
	g.apply(config + "certificates:\n" + certificateOf("a", bCert, bKey, ""))
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 200 {
		t.Errorf("the connection from before: %v, %v", res, err)
	}
	_, _, state, err := g.overTLS(&tls.Config{RootCAs: ca.Pool(), ServerName: "a.example"}, "a.example", "")
	if err != nil || state.PeerCertificates[0].VerifyHostname("new.example") != nil {
		t.Errorf("the new certificate: %v", err)
	}
	_, _, _, err = g.overTLS(&tls.Config{RootCAs: ca.Pool(), ServerName: "x.wild.example"}, "a.example", "")
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a name without a certificate: %v", err)
	}
}

func TestTLSResumption(t *testing.T) {
	ca := newAuthority(t)
	cert, key, _ := ca.issue("a.example")
	_, _, client := ca.issue("client")
	g := start(t, to(showing(t), "")+"certificates:\n"+certificateOf("a", cert, key, ""))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conf := &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example", MaxVersion: version,
			ClientSessionCache: tls.NewLRUClientSessionCache(8), Certificates: []tls.Certificate{client}}
		for i := range 2 {
			_, _, state, err := g.overTLS(conf, "a.example", "")
			if err != nil || state.DidResume != (i == 1) {
				t.Errorf("%x, %d: resumed %v, %v", version, i, state.DidResume, err)
			}
		}
		// Now the host asks for certificates: what was agreed on before does not count.
		g.apply(to(showing(t), "") + "certificates:\n" + certificateOf("a", cert, key, clientAuth("optional", ca)))
		if _, text, state, err := g.overTLS(conf, "a.example", ""); err != nil || state.DidResume || !strings.Contains(text, "Client-Cert: :") {
			t.Errorf("%x: resumed %v, %v, %s", version, state.DidResume, err, text)
		}
		if _, text, state, err := g.overTLS(conf, "a.example", ""); err != nil || !state.DidResume || !strings.Contains(text, "Client-Cert: :") {
			t.Errorf("%x: resumed %v, %v, %s", version, state.DidResume, err, text)
		}
		g.apply(to(showing(t), "") + "certificates:\n" + certificateOf("a", cert, key, ""))
	}
}

func TestClientCertificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	openCert, openKey, _ := ca.issue("open.example")
	maybeCert, maybeKey, _ := ca.issue("maybe.example")
	mustCert, mustKey, _ := ca.issue("must.example")
	_, _, client := ca.issue("client")
	_, _, stranger := other.issue("client")
	g := start(t, to(showing(t), "")+"certificates:\n"+certificateOf("open", openCert, openKey, "")+
		certificateOf("maybe", maybeCert, maybeKey, clientAuth("optional", ca))+
		certificateOf("must", mustCert, mustKey, clientAuth("required", ca)))
	field := "Client-Cert: :" + base64.StdEncoding.EncodeToString(client.Certificate[0]) + ":"
	forged := "Client-Cert: :Zm9yZ2Vk:\r\nClient-Cert-Chain: :Zm9yZ2Vk:\r\n"
	for _, c := range []struct {
		name   string
		sni    string
		cert   *tls.Certificate
		host   string
		status int // 0: no connection
		proof  bool
	}{
		{"open", "open.example", nil, "open.example", 200, false},
		{"optional, without", "maybe.example", nil, "maybe.example", 200, false},
		{"optional, with", "maybe.example", &client, "maybe.example:443", 200, true},
		{"optional, with a stranger's", "maybe.example", &stranger, "maybe.example", 0, false},
		{"required, without", "must.example", nil, "must.example", 0, false},
		{"required, with", "must.example", &client, "must.example", 200, true},
		{"required, with a stranger's", "must.example", &stranger, "must.example", 0, false},
		{"required, through another host's connection", "open.example", &client, "must.example", 421, false},
		{"required, through an optional one's", "maybe.example", nil, "MUST.example", 421, false},
		{"open, through a connection with a certificate", "must.example", &client, "open.example", 200, true},
	} {
		conf := &tls.Config{RootCAs: ca.Pool(), ServerName: c.sni}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c.cert == nil {
				return &tls.Certificate{}, nil
			}
			return c.cert, nil
		}
		res, text, _, err := g.overTLS(conf, c.host, forged)
		switch {
		case c.status == 0:
			if err == nil {
				t.Errorf("%s: status %d", c.name, res.StatusCode)
			}
		case err != nil || res.StatusCode != c.status:
			t.Errorf("%s: %v, %v", c.name, res, err)
		case strings.Contains(text, "Zm9yZ2Vk") || strings.Contains(text, field) != c.proof:
			t.Errorf("%s: the service got\n%s", c.name, text)
		}
	}
	if res := g.raw("GET / HTTP/1.1\r\nHost: must.example\r\n\r\n", "GET")[0]; res.StatusCode != 421 {
		t.Errorf("required, without TLS: %d", res.StatusCode)
	}
	if res := g.raw("GET / HTTP/1.1\r\nHost: open.example\r\n"+forged+"\r\n", "GET")[0]; res.StatusCode != 200 || strings.Contains(body(t, res), "Zm9yZ2Vk") {
		t.Errorf("a forged field without TLS: %d", res.StatusCode)
	}
}

// TestWildcardsAskWhatRoutesAnswer sends requests for hosts of any depth to a route that has the same wildcard as a
// certificate which asks clients for one: without one there is no way to the service.
func TestWildcardsAskWhatRoutesAnswer(t *testing.T) {
	ca := newAuthority(t)
	cert, key, _ := ca.issue("*.shop.test")
	openCert, openKey, _ := ca.issue("open.test")
	config := strings.Replace(to(showing(t), ""), "path: /*", "path: /*, hosts: [\"*.shop.test\", open.test]", 1)
	g := start(t, config+"certificates:\n"+certificateOf("shop", cert, key, clientAuth("required", ca))+
		certificateOf("open", openCert, openKey, "    default: true\n"))
	if res := g.raw("GET / HTTP/1.1\r\nHost: open.test\r\n\r\n", "GET")[0]; res.StatusCode != 200 {
		t.Fatalf("the open host answers %d", res.StatusCode)
	}
	for _, host := range []string{"a.shop.test", "a.b.shop.test", "a.b.c.shop.test", "A.B.Shop.Test", "a.b.shop.test.", "a.b.shop.test:8443"} {
		if res := g.raw("GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n", "GET")[0]; res.StatusCode != 421 {
			t.Errorf("%s without TLS: %d", host, res.StatusCode)
		}
		conf := &tls.Config{ServerName: "open.test", InsecureSkipVerify: true}
		if res, _, _, err := g.overTLS(conf, host, ""); err != nil || res.StatusCode != 421 {
			t.Errorf("%s through the connection for another: %v, %v", host, res, err)
		}
		conf.ServerName, _, _ = strings.Cut(strings.TrimSuffix(host, "."), ":")
		if res, _, _, err := g.overTLS(conf, host, ""); err == nil {
			t.Errorf("%s over TLS: %d", host, res.StatusCode)
		}
	}
}

// TestLargeBodiesOverTLS sends more than every buffer both ways, with requests in between that are pipelined or cut
// into many records.
func TestLargeBodiesOverTLS(t *testing.T) {
	ca := newAuthority(t)
	cert, key, _ := ca.issue("a.example")
	large := strings.Repeat("0123456789abcdef", 3<<16) // 3 MiB
	limits := strings.NewReplacer("max_request_bytes: 1000000", "max_request_bytes: 10000000")
	g := start(t, limits.Replace(to(scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			got, _ := io.ReadAll(req.Body)
			if req.Method == http.MethodGet {
				got = []byte(large)
			}
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(got), got)
		}
	}), ""))+"certificates:\n"+certificateOf("a", cert, key, ""))
	c, err := tls.Dial("tcp", g.secure.Addr().String(), &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	r := bufio.NewReader(c)
	answer := func(method, want string) {
		t.Helper()
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != want {
			t.Fatalf("%d bytes came, %d wanted: %v", len(got), len(want), err)
		}
	}
	small := "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
	for range 3 {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"+small)
		answer("GET", large)
		answer("POST", "hello")
		for i := range len(small) { // a record a byte
			_, _ = io.WriteString(c, small[i:i+1])
		}
		answer("POST", "hello")
		go func() {
			_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n%s", len(large), large)
		}()
		answer("POST", large)
	}
}

func TestPlainHTTPToTLS(t *testing.T) {
	ca := newAuthority(t)
	certPEM, keyPEM, _ := ca.issue("a.test")
	g := start(t, to(echo(t), "")+"certificates:\n"+certificateOf("a", certPEM, keyPEM, ""))
	c, err := net.Dial("tcp", g.secure.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text := body(t, res); res.StatusCode != 400 || !strings.Contains(text, `"message":"this port speaks TLS: use https"`) {
		t.Errorf("%s: %s", res.Status, text)
	}
}
