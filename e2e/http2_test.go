package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

// keyPair makes a certificate for localhost that is its own authority.
func keyPair(t testing.TB) (certPEM, keyPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// reader is a service that reads a request to its end before it answers: whether the gateway sees that a request is
// broken must not depend on who is faster.
func reader(t testing.TB) (port int) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

// TestHTTP2Conformance runs h2spec, which breaks every rule of RFC 9113 and RFC 7541 in turn, against a node that has
// an HTTP/1.1 service behind it.
func TestHTTP2Conformance(t *testing.T) {
	h2spec, err := testserver.FindTool("h2spec")
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM := keyPair(t)
	folder := t.TempDir()
	config, err := json.Marshal(map[string]any{
		"services":     []any{map[string]any{"name": "s", "endpoints": []any{map[string]any{"host": "127.0.0.1", "port": reader(t)}}}},
		"routes":       []any{map[string]any{"name": "r", "path": "/*", "service_id": "s"}},
		"certificates": []any{map[string]any{"name": "c", "hosts": []string{"localhost"}, "default": true, "cert_pem": certPEM, "key_pem": keyPEM}},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "gateway.json"), string(config))
	plain, secure, state := address(t), address(t), address(t)
	launch(t, bin(t, "dataplane"), nil, "--config", folder, "--http-addr", plain, "--https-addr", secure, "--status-addr", state, "--data-dir", t.TempDir())
	waittest.UntilNil(t, "the node", func() error { return status(state, "/readyz", 200) })

	for _, c := range []struct {
		name, address string
		options       []string
		failed        string // the one rule that can't hold
	}{
		{"TLS", secure, []string{"--tls", "--insecure"}, ""},
		// What does not begin with the preface is HTTP/1.1 there, and is answered with a 400 of HTTP/1.1 before the
		// connection ends.
		{"cleartext", plain, nil, "Sends invalid connection preface"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			host, port, err := net.SplitHostPort(c.address)
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(h2spec, append(c.options, "--host", host, "--port", port, "--timeout", "5")...).CombinedOutput()
			if c.failed == "" && err != nil {
				t.Errorf("h2spec: %v\n%s", err, failures(out))
			}
			for line := range strings.Lines(failures(out)) {
				if strings.Contains(line, "×") && (c.failed == "" || !strings.Contains(line, c.failed)) {
					t.Errorf("fails: %s", strings.TrimSpace(line))
				}
			}
			if !bytes.Contains(out, []byte(" passed, 0 skipped, ")) {
				t.Errorf("h2spec did not come to its end:\n%s", out)
			}
		})
	}
}

// failures returns the part of h2spec's report that says what failed.
func failures(report []byte) string {
	_, after, _ := bytes.Cut(report, []byte("Failures:"))
	return string(after)
}
