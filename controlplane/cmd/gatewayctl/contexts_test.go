package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gateway.internal/controlplane/internal/cli"
)

// encrypted makes what speaks TLS before a server that does not. It returns its address and a file with its
// certificate.
func encrypted(t *testing.T, server string) (address, caFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true,
		BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{"h2"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", server)
			if err != nil {
				_ = conn.Close()
				continue
			}
			go func() { _, _ = io.Copy(to, conn); _ = to.Close() }()
			go func() { _, _ = io.Copy(conn, to); _ = conn.Close() }()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String(), caFile
}

func TestContexts(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	serve(t)
	server := os.Getenv("GATEWAYCTL_SERVER")
	secure, caFile := encrypted(t, server)
	t.Setenv("GATEWAYCTL_SERVER", "")
	t.Setenv("GATEWAYCTL_TOKEN", "")
	t.Chdir(t.TempDir())
	must := func(stdin, want string, args ...string) {
		t.Helper()
		out, complaint, code := gatewayctl(t, stdin, args...)
		if code != 0 || !strings.Contains(out, want) || strings.Contains(out+complaint, token) {
			t.Errorf("%q: exit %d, %s%s", args, code, out, complaint)
		}
	}
	refused := func(stdin, want string, exit int, args ...string) {
		t.Helper()
		out, complaint, code := gatewayctl(t, stdin, args...)
		if code != exit || !strings.Contains(complaint, want) || strings.Contains(out+complaint, token) {
			t.Errorf("%q: exit %d, %s%s", args, code, out, complaint)
		}
	}
	refused("", "there is no token on standard input", cli.ExitUsage, "login", "--server", server)
	refused("wrong", "UNAUTHENTICATED", cli.ExitUnauthenticated, "login", "--server", server)
	must(token+"\n", "logged in to local", "login", "local", "--server", server)
	must("", "admin", "whoami")
	refused(token, "can't be verified", cli.ExitUnavailable, "login", "prod", "--server", secure, "--tls", "on",
		"--timeout", "5s")
	must(token, "logged in to prod", "login", "prod", "--server", secure, "--ca-cert", caFile)
	must("", "* ", "context", "list")
	must("", "admin", "whoami")
	must("", "using local", "context", "use", "local")
	must("", "admin", "whoami", "--context", "prod")
	refused("", "does not speak TLS", cli.ExitUnavailable, "whoami", "--tls", "on", "--timeout", "5s")
	refused("", "goes with neither", cli.ExitUsage, "whoami", "--tls", "off", "--insecure")
	refused("", "has to be auto, on, off", cli.ExitUsage, "whoami", "--tls", "maybe")
	refused("", "there are local, prod", cli.ExitUsage, "context", "use", "test")
	refused("", "context \"a/b\"", cli.ExitUsage, "context", "set", "a/b")

	// A token goes to the server that it is of, and to no other.
	refused("", "a token is required", cli.ExitUnauthenticated, "whoami", "--server", server)
	t.Setenv("GATEWAYCTL_SERVER", server)
	refused("", "a token is required", cli.ExitUnauthenticated, "whoami")
	t.Setenv("GATEWAYCTL_SERVER", "")
	must("", "context local is 127.0.0.1:1", "context", "set", "local", "--server", "127.0.0.1:1")
	refused("", "a token is required", cli.ExitUnauthenticated, "whoami")

	must("", "logged out of prod", "logout", "prod")
	refused("", "a token is required", cli.ExitUnauthenticated, "whoami", "--context", "prod")
	must("", "removed local", "context", "remove", "local")

	path := filepath.Join(home, "gatewayctl", "config.yaml")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	refused("", "can be read by others", cli.ExitUsage, "context", "list")
	if err := os.WriteFile(path, []byte("current: "+token+": x"), 0o600); err != nil || os.Chmod(path, 0o600) != nil {
		t.Fatal(err)
	}
	refused("", "is no YAML", cli.ExitUsage, "context", "list")
}
