package follow

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

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
				text, _ := readable(filepath.Join(dir, e.Name()))
				if strings.Contains(text, old.GetKeyPem()) {
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

// TestValuesThatAreGoneAreNotOnDisk is the same for values that a file took from the environment.
func TestValuesThatAreGoneAreNotOnDisk(t *testing.T) {
	const canary = "the value that nobody is to find"
	consumer := func(value string) config.Edit {
		return config.Edit{Kind: config.Consumer, Put: &configv1.Consumer{Name: "c", Labels: map[string]string{"l": value},
			Environment: map[string]string{"labels.l": "${env:L}"}}}
	}
	headers := func(value, label string) config.Edit {
		settings, err := structpb.NewStruct(map[string]any{"request": map[string]any{"set": map[string]any{"A": value}}})
		if err != nil {
			t.Fatal(err)
		}
		return config.Edit{Kind: config.Middleware, Put: &configv1.Middleware{Name: "m", Type: "headers", Config: settings,
			Labels: map[string]string{"l": label}, Environment: map[string]string{"config.request.set.A": "${env:A}"}}}
	}
	for name, test := range map[string]struct {
		first, then config.Edit
		gone        bool
	}{
		"another value":            {consumer(canary), consumer("x"), true},
		"removed":                  {consumer(canary), config.Edit{Kind: config.Consumer, Delete: "c"}, true},
		"another one of settings":  {headers(canary, ""), headers("x", ""), true},
		"settings are removed":     {headers(canary, ""), config.Edit{Kind: config.Middleware, Delete: "m"}, true},
		"another field":            {headers(canary, ""), headers(canary, "x"), false},
		"nothing to do with it":    {consumer(canary), route("b"), false},
		"one that stays elsewhere": {consumer(canary), headers("x", ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := follower(t, t.TempDir())
			src := &source{t: t, config: config.Empty()}
			applied(t, take(t, f, src.change(true, route("a"))))
			applied(t, take(t, f, src.change(false, test.first)))
			has := func() bool {
				there := false
				for _, j := range []*journal{&f.disk.snapshot, &f.disk.consumers} {
					text, err := readable(j.path())
					if err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Fatal(err)
					}
					there = there || strings.Contains(text, canary)
				}
				return there
			}
			if !has() {
				t.Fatal("the value was never there")
			}
			applied(t, take(t, f, src.change(false, test.then)))
			if there := has(); there == test.gone {
				t.Errorf("the value is there: %t", there)
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
	if text, err := readable(f.disk.snapshot.path()); err != nil || strings.Contains(text, old.GetKeyPem()) {
		t.Errorf("the key is there; %v", err)
	}
}
