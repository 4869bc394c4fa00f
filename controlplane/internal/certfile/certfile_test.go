package certfile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// issue writes a certificate that signs itself.
func issue(t *testing.T, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificatesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), slog.Default()); err == nil {
		t.Error("files that are not there")
	}
	issue(t, dir, 1)
	p, err := Open(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serves := func(when string, want int64) {
		t.Helper()
		p.mu.Lock()
		p.looked = time.Time{} // as if a second had passed
		p.mu.Unlock()
		if got := p.certificate().Leaf.SerialNumber.Int64(); got != want {
			t.Errorf("%s: number %d is served, want %d", when, got, want)
		}
	}
	serves("at first", 1)
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("half a cert"), 0o600); err != nil {
		t.Fatal(err)
	}
	serves("while it is being replaced", 1)
	issue(t, dir, 2)
	later := time.Now().Add(time.Minute) // whatever the resolution of the file system's times
	if err := os.Chtimes(filepath.Join(dir, "cert.pem"), later, later); err != nil {
		t.Fatal(err)
	}
	serves("after it was replaced", 2)
	if err := os.Remove(filepath.Join(dir, "key.pem")); err != nil {
		t.Fatal(err)
	}
	serves("without a key", 2)
}

// TestOldVersionsAreRefused: nothing below TLS 1.2 is spoken.
func TestOldVersionsAreRefused(t *testing.T) {
	dir := t.TempDir()
	issue(t, dir, 1)
	p, err := Open(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for version, allowed := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true,
		tls.VersionTLS13: true} {
		client, server := net.Pipe()
		go func() {
			_ = tls.Server(server, p.Config("h2")).Handshake()
			_ = server.Close()
		}()
		err := tls.Client(client, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version,
			NextProtos: []string{"h2"}}).Handshake()
		_ = client.Close()
		if (err == nil) != allowed {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}
