package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/certtest"
	"gateway.internal/shared/waittest"
)

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
	own := certtest.For(t, "localhost")
	folder := t.TempDir()
	config, err := json.Marshal(map[string]any{
		"services":     []any{map[string]any{"name": "s", "endpoints": []any{map[string]any{"host": "127.0.0.1", "port": reader(t)}}}},
		"routes":       []any{map[string]any{"name": "r", "path": "/*", "service_id": "s"}},
		"certificates": []any{certificateOf(own, "localhost", true)},
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
