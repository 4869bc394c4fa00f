package follow

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// pair makes a certificate with its key.
func pair(t *testing.T) (certPEM, keyPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"},
		NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return block("CERTIFICATE", cert), block("PRIVATE KEY", der)
}

// TestReferredFilesAreReadAgain renews a certificate as certbot does, by links, and as a mounted secret changes.
func TestReferredFilesAreReadAgain(t *testing.T) {
	dir, secrets := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	put := func(folder, cert, key string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Join(secrets, folder), 0o700),
			os.WriteFile(filepath.Join(secrets, folder, "tls.crt"), []byte(cert), 0o600),
			os.WriteFile(filepath.Join(secrets, folder, "tls.key"), []byte(key), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(folder string) {
		t.Helper()
		next := filepath.Join(secrets, "next")
		if err := errors.Join(os.Symlink(folder, next), os.Rename(next, filepath.Join(secrets, "live"))); err != nil {
			t.Fatal(err)
		}
	}
	firstCert, firstKey := pair(t)
	secondCert, secondKey := pair(t)
	put("1", firstCert, firstKey)
	link("1")
	t.Setenv("GATEWAY_TEST_SECRETS", secrets)
	synctest.Test(t, func(t *testing.T) {
		write(t, path, "certificates: [{name: a, cert_file: \"${env:GATEWAY_TEST_SECRETS}/live/tls.crt\", key_file: "+
			"\"${env:GATEWAY_TEST_SECRETS}/live/tls.key\"}]\n"+
			"routes: [{name: r, path: /, direct_response: {body: \"${env:GATEWAY_TEST_SECRETS}\"}}]\n")
		log, node := &logged{}, &nodeDouble{}
		f := &Files{Path: dir, Log: log.logger(), To: node}
		if err := f.Load(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.Run(ctx)
		}()
		defer func() {
			cancel()
			<-done
		}()
		runs := func(when string, revision uint32, key string) {
			t.Helper()
			time.Sleep(4*lookInterval + lookInterval/2)
			synctest.Wait()
			m := node.version.Config.ByName(config.Certificate, "a").Message.(*configv1.Certificate)
			if node.version.Revision != revision || m.GetKeyPem() != key {
				t.Errorf("%s: revision %d, the first key %v:\n%s", when, node.version.Revision, m.GetKeyPem() == firstKey,
					log.b.String())
			}
		}
		runs("at first", 1, firstKey)
		if r := node.version.Config.ByName(config.Route,
			"r").Message.(*configv1.Route); r.GetDirectResponse().GetBody() != secrets {
			t.Errorf("the environment gives %q", r.GetDirectResponse().GetBody())
		}
		put("2", secondCert, secondKey)
		runs("beside it", 1, firstKey)
		link("2")
		runs("with the links swapped", 2, secondKey)
		put("2", firstCert, secondKey)
		runs("with a key that does not go with it", 2, secondKey)
		if log.count("does not go with cert_pem") != 1 || log.count("a.yaml:1:") == 0 || log.count("PRIVATE") != 0 {
			t.Errorf("not logged once with its place:\n%s", log.b.String())
		}
		put("2", firstCert, firstKey)
		runs("with the whole pair", 3, firstKey)
		if err := os.RemoveAll(filepath.Join(secrets, "2")); err != nil {
			t.Fatal(err)
		}
		runs("without the files", 3, firstKey)
		put("2", secondCert, secondKey)
		runs("with the files again", 4, secondKey)
	})
}
