package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/certtest"
	"gateway.internal/shared/waittest"
)

// seen is what a service was asked, which it answers with.
type seen struct {
	Method, Path, Host    string
	Protocol, Client, Via string
	Bytes                 int64
	Sum                   string
}

// echo is a service that answers with what it was asked, once it has read all of it. It says in a trailer that the
// answer is whole.
func echo(t testing.TB) (port int) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Trailer", "X-Whole")
		_ = json.NewEncoder(w).Encode(seen{
			Method: r.Method, Path: r.URL.Path, Host: r.Host, Protocol: r.Header.Get("X-Forwarded-Proto"), Client: r.Header.Get("Client-Cert"), Via: r.Proto,
			Bytes: n, Sum: hex.EncodeToString(sum.Sum(nil)),
		})
		w.Header().Set("X-Whole", "yes")
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

// certificateOf is a certificate of the configuration for a host, and by default for clients that ask for none.
func certificateOf(c *certtest.Certificate, host string, byDefault bool) map[string]any {
	return map[string]any{
		"name": host, "hosts": []string{host}, "default": byDefault, "cert_pem": c.CertPEM, "key_pem": c.KeyPEM,
	}
}

// front is a node with a configuration of its own, which serves localhost with and without TLS.
type front struct {
	plain, secure string
	// dir holds ca.pem, which vouches for localhost, and client.pem and client.key, which are trusted as a client's.
	dir string
	ca  *x509.CertPool
	own tls.Certificate
}

// newFront starts a node with services and what else is in a configuration, and with flags. Clients may prove who they
// are.
func newFront(t testing.TB, config map[string]any, flags ...string) *front {
	t.Helper()
	servers, clients := certtest.Authority(t), certtest.Authority(t)
	server, client := servers.Issue(t, "localhost"), clients.Issue(t, "client")
	others, _ := config["certificates"].([]any)
	own := certificateOf(server, "localhost", true)
	own["client_auth"] = map[string]any{"mode": "optional", "ca_pem": clients.CertPEM}
	config["certificates"] = append(others, own)
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{plain: address(t), secure: address(t), dir: t.TempDir(), ca: servers.Pool(), own: client.TLS()}
	write(t, filepath.Join(f.dir, "config", "gateway.json"), string(text))
	write(t, filepath.Join(f.dir, "ca.pem"), servers.CertPEM)
	client.Write(t, filepath.Join(f.dir, "client.pem"), filepath.Join(f.dir, "client.key"))
	write(t, filepath.Join(f.dir, "large"), strings.Repeat("0123456789abcdef", 256<<10/16))
	state := address(t)
	launch(t, bin(t, "dataplane"), nil, append([]string{"--config", filepath.Join(f.dir, "config"), "--http-addr", f.plain, "--https-addr", f.secure, "--status-addr", state, "--data-dir", t.TempDir()}, flags...)...)
	waittest.UntilNil(t, "the node", func() error { return status(state, "/readyz", 200) })
	return f
}

// http and https are where it is asked by the name in its certificate.
func (f *front) http() string {
	return "http://localhost:" + f.plain[strings.LastIndex(f.plain, ":")+1:]
}
func (f *front) https() string {
	return "https://localhost:" + f.secure[strings.LastIndex(f.secure, ":")+1:]
}

func echoFront(t testing.TB) *front {
	return newFront(t, map[string]any{
		"services": []any{map[string]any{"name": "echo", "endpoints": []any{map[string]any{"host": "127.0.0.1", "port": echo(t)}}}},
		"routes":   []any{map[string]any{"name": "echo", "path": "/echo/*", "service_id": "echo"}},
	})
}

// tool returns the path of a program that make tools installs.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := testserver.FindTool(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a client and returns what it prints; it has a minute.
func run(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
	defer cancel()
	out, err := exec.CommandContext(ctx, tool(t, name), args...).CombinedOutput()
	return string(out), err
}

// TestCurl has curl speak all that it can with a node.
func TestCurl(t *testing.T) {
	f := echoFront(t)
	file := func(name string) string { return filepath.Join(f.dir, name) }
	large := sha256.Sum256([]byte(strings.Repeat("0123456789abcdef", 256<<10/16)))
	whole := []string{fmt.Sprintf(`"Bytes":%d`, 256<<10), hex.EncodeToString(large[:])}
	upload := []string{"--data-binary", "@" + file("large")}
	identified := []string{"--cert", file("client.pem"), "--key", file("client.key")}
	for _, c := range []struct {
		name, base string
		args       []string
		want       []string
	}{
		{"HTTP/1.0", f.http(), []string{"--http1.0"}, []string{"HTTP/1.1 200 OK", `"Via":"HTTP/1.1"`, `"Protocol":"http"`}},
		{"HTTP/1.1", f.http(), []string{"--http1.1"}, []string{"HTTP/1.1 200 OK", `"Method":"GET","Path":"/echo/x"`}},
		{"HTTP/1.1 trailers", f.http(), []string{"--http1.1", "-v", "-H", "TE: trailers"}, []string{"X-Whole: yes"}},
		{"HTTP/1.1 upload with Expect", f.http(), append([]string{"--http1.1", "-H", "Expect: 100-continue"}, upload...), append([]string{"HTTP/1.1 100 Continue", "HTTP/1.1 200 OK"}, whole...)},
		{"HTTP/1.1 chunked upload", f.http(), append([]string{"--http1.1", "-H", "Transfer-Encoding: chunked"}, upload...), whole},
		{"HTTP/2 by prior knowledge", f.http(), []string{"--http2-prior-knowledge"}, []string{"HTTP/2 200", `"Method":"GET"`}},
		{"HTTP/2 upload", f.http(), append([]string{"--http2-prior-knowledge"}, upload...), append([]string{"HTTP/2 200"}, whole...)},
		{"HTTP/2 upload with Expect", f.http(), append([]string{"--http2-prior-knowledge", "-H", "Expect: 100-continue"}, upload...), append([]string{"HTTP/2 200"}, whole...)},
		{"TLS 1.2", f.https(), []string{"--http1.1", "--tls-max", "1.2", "-v"}, []string{"SSL connection using TLSv1.2", "HTTP/1.1 200 OK", `"Protocol":"https"`}},
		{"TLS 1.3", f.https(), []string{"--http1.1", "--tlsv1.3", "-v"}, []string{"SSL connection using TLSv1.3", "HTTP/1.1 200 OK", `"Client":""`}},
		{"HTTP/2 by ALPN", f.https(), append([]string{"--http2", "-v"}, upload...), append([]string{"ALPN: server accepted h2", "HTTP/2 200"}, whole...)},
		{"client certificate", f.https(), append([]string{"--http1.1"}, identified...), []string{"HTTP/1.1 200 OK", `"Client":":`}},
		{"client certificate, HTTP/2, TLS 1.2", f.https(), append([]string{"--http2", "--tls-max", "1.2"}, identified...), []string{"HTTP/2 200", `"Client":":`}},
		{"forged client certificate", f.https(), []string{"--http2", "-H", "Client-Cert: :Zm9yZ2Vk:"}, []string{"HTTP/2 200", `"Client":""`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, err := run(t, "curl", append([]string{"-sS", "-i", "--noproxy", "*", "--max-time", "30", "--cacert", file("ca.pem"), c.base + "/echo/x"}, c.args...)...)
			if err != nil {
				t.Fatalf("curl: %v\n%s", err, out)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
		})
	}
}

// TestGoClient has Go's client do the same over one connection of each kind.
func TestGoClient(t *testing.T) {
	f := echoFront(t)
	cleartext := new(http.Protocols)
	cleartext.SetUnencryptedHTTP2(true)
	secure := func() *tls.Config { return &tls.Config{RootCAs: f.ca, Certificates: []tls.Certificate{f.own}} }
	for _, c := range []struct {
		name, base, protocol string
		transport            *http.Transport
	}{
		{"HTTP/1.1", f.http(), "HTTP/1.1", &http.Transport{}},
		{"HTTP/2 by prior knowledge", f.http(), "HTTP/2.0", &http.Transport{Protocols: cleartext}},
		{"HTTP/1.1 over TLS", f.https(), "HTTP/1.1", &http.Transport{TLSClientConfig: secure()}},
		{"HTTP/2 over TLS", f.https(), "HTTP/2.0", &http.Transport{TLSClientConfig: secure(), ForceAttemptHTTP2: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer c.transport.CloseIdleConnections()
			client := &http.Client{Transport: c.transport, Timeout: waittest.Limit}
			for i := range 20 {
				res, err := client.Post(c.base+"/echo/x", "text/plain", strings.NewReader(strings.Repeat("x", i*10_000)))
				if err != nil {
					t.Fatal(err)
				}
				var got seen
				err = json.NewDecoder(res.Body).Decode(&got)
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if err != nil || res.Proto != c.protocol || got.Bytes != int64(i*10_000) || (got.Client != "") != (res.TLS != nil) || res.Trailer.Get("X-Whole") != "yes" {
					t.Fatalf("%s, %+v, trailer %v: %v", res.Proto, got, res.Trailer, err)
				}
			}
		})
	}
}

// TestNode runs scripts with Node's http, https and http2 modules.
func TestNode(t *testing.T) {
	f := echoFront(t)
	for _, script := range []string{"http1.mjs", "http2.mjs"} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			out, err := run(t, "node", filepath.Join("testdata", "node", script), f.http(), f.https(), f.dir)
			if err != nil || !strings.HasSuffix(strings.TrimSpace(out), "all is well") {
				t.Errorf("node: %v\n%s", err, out)
			}
		})
	}
}

var succeeded = regexp.MustCompile(`(\d+) succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: (\d+) 2xx`)

// TestH2load has h2load send many requests at once, over each protocol.
func TestH2load(t *testing.T) {
	f := echoFront(t)
	const n = "3000"
	for name, args := range map[string][]string{
		"HTTP/1.1":               {"--h1", "-c", "20", f.http()},
		"HTTP/1.1 over TLS":      {"--h1", "-c", "20", f.https()},
		"HTTP/2":                 {"-c", "5", "-m", "50", f.http()},
		"HTTP/2 over TLS":        {"-c", "5", "-m", "50", f.https()},
		"HTTP/2, bodies":         {"-c", "5", "-m", "10", "-d", filepath.Join(f.dir, "ca.pem"), f.https()},
		"HTTP/2, small windows":  {"-c", "5", "-m", "10", "-w", "10", "-W", "12", f.http()},
		"HTTP/2, one connection": {"-c", "1", "-m", "128", f.https()},
	} {
		t.Run(name, func(t *testing.T) {
			args[len(args)-1] += "/echo/x"
			out, err := run(t, "h2load", append([]string{"-n", n}, args...)...)
			m := succeeded.FindStringSubmatch(out)
			if err != nil || m == nil || m[1] != n || m[2] != n {
				t.Errorf("h2load: %v\n%s", err, out)
			}
		})
	}
}
