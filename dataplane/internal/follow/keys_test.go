package follow

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// certificate is one with a fresh key.
func certificate(t *testing.T, name string) *configv1.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name + ".example.com"}, NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &configv1.Certificate{
		Name:    name,
		CertPem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		KeyPem:  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})),
	}
}

// TestKeysThatAreGoneAreNotOnDisk looks for keys in every file of the folder.
func TestKeysThatAreGoneAreNotOnDisk(t *testing.T) {
	put := func(m config.Message) config.Edit { return config.Edit{Kind: config.KindOfMessage(m), Put: m} }
	for name, change := range map[string]struct {
		edit config.Edit
		full bool
		gone bool
	}{
		"a deleted certificate": {edit: config.Edit{Kind: config.Certificate, Delete: "old"}, gone: true},
		"a renewed certificate": {edit: put(certificate(t, "old")), gone: true},
		"a full snapshot without it": {
			edit: config.Edit{Kind: config.Certificate, Delete: "old"}, full: true, gone: true,
		},
		"another certificate":                     {edit: put(certificate(t, "new"))},
		"a change of what is not the key":         {edit: put(&configv1.Certificate{Name: "old", MinVersion: "1.3"})},
		"a change that has nothing to do with it": {edit: route("b")},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			old := certificate(t, "old")
			if name == "a change of what is not the key" {
				change.edit.Put.(*configv1.Certificate).CertPem = old.GetCertPem()
			}
			// What a process that died has left, and a file that was put aside.
			for _, left := range []string{"snapshot.pb.new", "snapshot.pb.bad"} {
				write(t, filepath.Join(dir, left), old.GetKeyPem())
			}
			f, n := follower(t, dir)
			src := &source{t: t, config: config.Empty()}
			applied(t, take(t, f, src.change(true, route("a"))))
			applied(t, take(t, f, src.change(false, put(old))))
			applied(t, take(t, f, src.change(change.full, change.edit)))
			applied(t, take(t, f, src.change(false, route("later"))))
			var in []string
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				text, _ := os.ReadFile(filepath.Join(dir, e.Name()))
				if strings.Contains(string(text), old.GetKeyPem()) {
					in = append(in, e.Name())
				}
			}
			if change.gone != (len(in) == 0) {
				t.Errorf("the key is in %v", in)
			}
			f.disk.close()
			if _, n2 := follower(t, dir); n2.version.Config.Hash() != n.version.Config.Hash() {
				t.Error("the next start has something else")
			}
		})
	}
}

// TestKeysStayWhileTheDiskIsFull: the file is written anew as soon as that is possible.
func TestKeysStayWhileTheDiskIsFull(t *testing.T) {
	dir := t.TempDir()
	f, _ := follower(t, dir)
	src := &source{t: t, config: config.Empty()}
	old := certificate(t, "old")
	applied(t, take(t, f, src.change(true, route("a"), config.Edit{Kind: config.Certificate, Put: old})))
	mend := breakDisk(t, dir)
	r := take(t, f, src.change(false, config.Edit{Kind: config.Certificate, Delete: "old"}))
	if r.GetOutcome() != streamv1.Result_OUTCOME_DEGRADED {
		t.Errorf("got %v", r)
	}
	mend()
	applied(t, take(t, f, src.change(false, route("b"))))
	if text, err := os.ReadFile(f.disk.path()); err != nil || strings.Contains(string(text), old.GetKeyPem()) {
		t.Errorf("the key is there; %v", err)
	}
}
