package follow

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

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
	first, second := certificate(t, "first"), certificate(t, "second")
	firstCert, firstKey := first.GetCertPem(), first.GetKeyPem()
	secondCert, secondKey := second.GetCertPem(), second.GetKeyPem()
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
			version := node.running()
			m := version.Config.ByName(config.Certificate, "a").Message.(*configv1.Certificate)
			if version.Revision != revision || m.GetKeyPem() != key {
				t.Errorf("%s: revision %d, the first key %v:\n%s", when, version.Revision, m.GetKeyPem() == firstKey,
					log.b.String())
			}
		}
		runs("at first", 1, firstKey)
		r := node.running().Config.ByName(config.Route, "r").Message.(*configv1.Route)
		if body := r.GetDirectResponse().GetBody(); body != secrets {
			t.Errorf("the environment gives %q", body)
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
