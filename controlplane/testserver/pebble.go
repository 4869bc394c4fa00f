package testserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// Pebble is a running ACME server, for which every host name is at 127.0.0.1. It validates each host for each order
// anew.
type Pebble struct {
	// Directory is the URL of its directory, CAFile a file with the authority that its own certificate is from.
	Directory, CAFile string
	// Roots are the authorities of what it issues.
	Roots *x509.CertPool
}

// NewPebble starts one that validates by HTTP at a port and has profiles with these lifetimes.
func NewPebble(t testing.TB, httpPort int, profiles map[string]time.Duration) *Pebble {
	t.Helper()
	dir := t.TempDir()
	p := &Pebble{CAFile: filepath.Join(dir, "ca.pem"), Roots: x509.NewCertPool()}
	pool := p.ownCertificate(t, dir)
	listen := func() string { return net.JoinHostPort("127.0.0.1", fmt.Sprint(FreePort(t))) }
	api, management, dns := listen(), listen(), listen()
	known := map[string]any{}
	for name, lifetime := range profiles {
		known[name] = map[string]any{"description": name, "validityPeriod": int(lifetime.Seconds())}
	}
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": api, "managementListenAddress": management, "certificate": p.CAFile, "privateKey": filepath.Join(dir, "key.pem"),
		"httpPort": httpPort, "tlsPort": FreePort(t), "keyAlgorithm": "ecdsa", "profiles": known, "retryAfter": map[string]int{"authz": 1, "order": 1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pebble.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	runTool(t, "pebble-challtestsrv", nil, "-dnsserver", dns, "-management", listen(), "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "")
	runTool(t, "pebble", []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0"}, "-config", filepath.Join(dir, "pebble.json"), "-dnsserver", dns, "-strict")
	p.Directory = "https://" + api + "/dir"
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}, Timeout: time.Second}
	waittest.UntilNil(t, "pebble", func() error {
		if _, err := fetch(client, p.Directory); err != nil {
			return err
		}
		text, err := fetch(client, "https://"+management+"/roots/0")
		if err == nil && !p.Roots.AppendCertsFromPEM(text) {
			err = fmt.Errorf("its root is no certificate: %s", text)
		}
		return err
	})
	return p
}

// ownCertificate makes what the server itself shows, and returns it as the one who is trusted.
func (p *Pebble) ownCertificate(t testing.TB, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for path, text := range map[string][]byte{p.CAFile: certPEM, filepath.Join(dir, "key.pem"): pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return pool
}

// runTool runs one of the tools until the test ends.
func runTool(t testing.TB, name string, env []string, args ...string) {
	t.Helper()
	bin, err := FindTool(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s logged:\n%s", name, text)
		}
		_ = log.Close()
	})
}

func fetch(client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, res.Status)
	}
	return text, err
}
