package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// certificateJSON is the body that creates a certificate, and its key.
func certificateJSON(t *testing.T, name string) (body, key string) {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name + ".example.com"}, NotAfter: time.Now().Add(1000 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	text, err := json.Marshal(map[string]string{"name": name, "cert_pem": chain, "key_pem": key})
	if err != nil {
		t.Fatal(err)
	}
	return string(text), key
}

// TestPurgedKeysAndRollback: what a rollback can't bring back it names, all at once, and changes nothing.
func TestPurgedKeysAndRollback(t *testing.T) {
	a := newAPI(t)
	one, key := certificateJSON(t, "one")
	two, _ := certificateJSON(t, "two")
	kept, _ := certificateJSON(t, "kept")
	for _, body := range []string{one, two, kept} {
		a.must("POST", "/api/v1/config/certificates", body)
	}
	a.must("DELETE", "/api/v1/config/certificates/one", "")
	a.must("DELETE", "/api/v1/config/certificates/two", "")
	if r := a.must("POST", "/api/v1/config/history/purge-secrets", `{"dry_run": true}`); r.field("keys") != 2.0 {
		t.Errorf("dry run: %s", r.raw)
	}
	a.must("POST", "/api/v1/config/revisions/4/rollback", `{"dry_run": true}`)
	r := a.must("POST", "/api/v1/config/history/purge-secrets", "")
	if r.field("keys") != 2.0 || r.field("revisions") != 4.0 || fmt.Sprint(r.field("certificates")) != "[one two]" || r.Meta.Revision != 5 {
		t.Errorf("purge: %s", r.raw)
	}
	if r := a.must("POST", "/api/v1/config/history/purge-secrets", ""); r.field("keys") != 0.0 {
		t.Errorf("purge again: %s", r.raw)
	}
	for _, dry := range []bool{true, false} {
		r = a.call("POST", "/api/v1/config/revisions/3/rollback", fmt.Sprintf(`{"dry_run": %t}`, dry))
		if r.Error.Code != "VALIDATION_FAILED" || len(r.Error.Details) != 2 ||
			r.Error.Details[0]["name"] != "one" || !strings.Contains(fmt.Sprint(r.Error.Details[0]["message"]), "purged from the history") {
			t.Errorf("rollback, dry run %t: %d %s", dry, r.status, r.raw)
		}
	}
	if r := a.must("GET", "/api/v1/config/revisions/1", ""); r.field("purged_count") != 1.0 || strings.Contains(r.raw, "PRIVATE KEY") {
		t.Errorf("revision 1: %s", r.raw)
	}
	a.must("GET", "/api/v1/config/diff?from=3", "")
	// With the keys there again, under other names, the way back is open.
	for _, body := range []string{one, two} {
		a.must("POST", "/api/v1/config/certificates", strings.Replace(body, `"name":"`, `"name":"again-`, 1))
	}
	if r := a.must("POST", "/api/v1/config/revisions/3/rollback", ""); r.field("committed") != true {
		t.Errorf("rollback: %s", r.raw)
	}
	v, err := a.catalog.ConfigAt(t.Context(), 8)
	if err != nil {
		t.Fatal(err)
	}
	if m := v.ByName(config.Certificate, "one").Message.(*configv1.Certificate); m.GetKeyPem() != key {
		t.Error("the certificate came back with another key")
	}
}

func TestPruneHistory(t *testing.T) {
	a := newAPI(t)
	for i := range 6 {
		a.must("POST", "/api/v1/config/services", fmt.Sprintf(`{"name": "s%d"}`, i))
	}
	for name, body := range map[string]string{
		"nothing said": ``, "an age that is none": `{"age": "a week"}`, "a negative age": `{"age": "-1h"}`,
		"a misspelt flag": `{"newset": 3}`,
	} {
		if r := a.call("POST", "/api/v1/config/history/prune", body); r.status != 400 {
			t.Errorf("%s: %d %s", name, r.status, r.raw)
		}
	}
	for _, test := range []struct {
		body            string
		removed, oldest float64
	}{
		{`{"newest": 2, "age": "1h"}`, 0, 1},
		{`{"newest": 2, "dry_run": true}`, 4, 5},
		{`{"newest": 2}`, 4, 5},
		{`{"newest": 2}`, 0, 5},
	} {
		r := a.must("POST", "/api/v1/config/history/prune", test.body)
		if r.field("removed") != test.removed || r.field("oldest") != test.oldest || r.Meta.Revision != 6 {
			t.Errorf("%s: %s", test.body, r.raw)
		}
	}
	if r := a.must("GET", "/api/v1/config/revisions", ""); r.Meta.Total != 2 {
		t.Errorf("revisions: %s", r.raw)
	}
	for _, call := range []string{
		"POST /api/v1/config/revisions/4/rollback", "GET /api/v1/config/revisions/4", "GET /api/v1/config/routes?revision=4",
	} {
		method, path, _ := strings.Cut(call, " ")
		if r := a.call(method, path, ""); r.status != 404 || !strings.Contains(r.Error.Message, "begins at revision 5") {
			t.Errorf("%s: %d %s", call, r.status, r.raw)
		}
	}
	a.must("POST", "/api/v1/config/revisions/5/rollback", "")
}
