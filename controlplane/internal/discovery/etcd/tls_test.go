package etcd

import (
	"context"
	"crypto/tls"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/identity/identitytest"
	"gateway.internal/shared/waittest"
)

// secured starts a member that clients reach over TLS, and returns its URL.
func secured(t *testing.T, ca *identitytest.Authority, name string) string {
	t.Helper()
	bin, err := testserver.FindTool("etcd")
	if err != nil {
		t.Fatal(err)
	}
	certificate, key := ca.Issue(name)
	address := func() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(testserver.FreePort(t))) }
	at, peer := address(), "http://"+address()
	cmd := exec.Command(bin, "--name", "m1", "--data-dir", t.TempDir(), "--unsafe-no-fsync", "--log-level", "error",
		"--listen-client-urls", "https://"+at, "--advertise-client-urls", "https://"+at, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "m1="+peer,
		"--cert-file", certificate, "--key-file", key, "--client-cert-auth", "--trusted-ca-file", ca.File)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	waittest.UntilNil(t, "etcd", func() error {
		conn, err := net.Dial("tcp", at)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return "https://" + at
}

// TestTLS asks a real member that wants client certificates.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca, other := identitytest.NewAuthority(t, dir, "ca"), identitytest.NewAuthority(t, dir, "other")
	client, clientKey := ca.Issue("control-plane")
	stranger, strangerKey := other.Issue("stranger")
	right, wrong := secured(t, ca, "127.0.0.1"), secured(t, ca, "etcd.example.org")
	for what, c := range map[string]struct {
		endpoint, ca, certificate, key string
		says                           string // empty: it answers
	}{
		"its authority and a client certificate": {right, ca.File, client, clientKey, ""},
		"another authority":                      {right, other.File, client, clientKey, "unknown authority"},
		"the system's authorities":               {right, "", client, clientKey, "unknown authority"},
		"a certificate of another name":          {wrong, ca.File, client, clientKey, "127.0.0.1"},
		"no client certificate":                  {right, ca.File, "", "", "certificate required"},
		"a stranger's client certificate":        {right, ca.File, stranger, strangerKey, "certificate required"},
	} {
		t.Run(what, func(t *testing.T) {
			by, err := loadTLS(c.ca, c.certificate, c.key)
			if err != nil {
				t.Fatal(err)
			}
			if c.says == "" {
				err = answers(t, c.endpoint, by)
			} else {
				err = handshake(t, c.endpoint, by) // the library keeps why it fails to itself
			}
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; it has to say %q", err, c.says)
			}
		})
	}
}

// answers has the library ask a member.
func answers(t *testing.T, endpoint string, by *tls.Config) error {
	t.Helper()
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: by, DialTimeout: 5 * time.Second})
	if err != nil {
		return err
	}
	defer cli.Close()
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
	defer cancel()
	_, err = cli.Status(ctx, endpoint)
	return err
}

// handshake returns why a connection ends: over TLS 1.3 the server's refusal comes after the handshake.
func handshake(t *testing.T, endpoint string, by *tls.Config) error {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(endpoint, "https://"), by)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(waittest.Deadline()); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}
