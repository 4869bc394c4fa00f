package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gateway.internal/shared/identity"
	"gateway.internal/shared/identity/identitytest"
	"gateway.internal/shared/waittest"
)

// TestTLS asks a real server that wants client certificates.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca, other := identitytest.NewAuthority(t, dir, "ca"), identitytest.NewAuthority(t, dir, "other")
	right, rightKey := ca.Issue("127.0.0.1")
	wrong, wrongKey := ca.Issue("redis.example.org")
	client, clientKey := ca.Issue("node")
	stranger, strangerKey := other.Issue("stranger")
	named, misnamed := serve(t, ca.File, right, rightKey), serve(t, ca.File, wrong, wrongKey)
	for what, c := range map[string]struct {
		port  int
		files identity.Files
		says  string // empty: it answers
	}{
		"its authority and a client certificate": {named,
			identity.Files{Authorities: ca.File, Certificate: client, Key: clientKey}, ""},
		"another authority": {named,
			identity.Files{Authorities: other.File, Certificate: client, Key: clientKey}, "unknown authority"},
		"the system's authorities": {named,
			identity.Files{Certificate: client, Key: clientKey}, "unknown authority"},
		"a certificate of another name": {misnamed,
			identity.Files{Authorities: ca.File, Certificate: client, Key: clientKey}, "127.0.0.1"},
		"no client certificate": {named,
			identity.Files{Authorities: ca.File}, "certificate required"},
		"a stranger's client certificate": {named,
			identity.Files{Authorities: ca.File, Certificate: stranger, Key: strangerKey}, "unknown"},
	} {
		t.Run(what, func(t *testing.T) {
			files, err := identity.NewReloader(c.files, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			client, err := NewWith(fmt.Sprint("rediss://127.0.0.1:", c.port), files)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			waittest.UntilNil(t, "an answer, or a refusal", func() error { // which on a busy machine takes more than Timeout
				if err = client.Ping(t.Context()).Err(); errors.Is(err, context.DeadlineExceeded) {
					return err
				}
				return nil
			})
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; it has to say %q", err, c.says)
			}
		})
	}
	if _, err := NewWith("redis://127.0.0.1", &identity.Reloader{}); err == nil {
		t.Error("files are taken for a connection without TLS")
	}
}

// serve starts a server that speaks TLS only.
func serve(t *testing.T, ca, certificate, key string) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = ln.Addr().(*net.TCPAddr).Port
	_ = ln.Close()
	cmd := exec.Command("redis-server", "--port", "0", "--tls-port", strconv.Itoa(port), "--bind", "127.0.0.1",
		"--save", "", "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", ca,
		"--tls-auth-clients", "yes")
	cmd.Dir = t.TempDir()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("redis-server (make tools): %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	waittest.UntilNil(t, "Redis", func() error {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return port
}
