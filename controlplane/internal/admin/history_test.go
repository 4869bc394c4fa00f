package admin

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/certtest"
	"gateway.internal/shared/config"
)

// certificateJSON is the body that creates a certificate, and its key.
func certificateJSON(t *testing.T, name string) (body, key string) {
	t.Helper()
	c := certtest.New(t, nil, x509.Certificate{
		DNSNames: []string{name + ".example.com"}, NotAfter: time.Now().Add(1000 * time.Hour),
	})
	text, err := json.Marshal(map[string]string{"name": name, "cert_pem": c.CertPEM, "key_pem": c.KeyPEM})
	if err != nil {
		t.Fatal(err)
	}
	return string(text), c.KeyPEM
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

// TestPurgedValuesAndRollback: of values of the environment that were purged, a rollback names those that it can't
// bring back, all at once, and changes nothing; for one whose text is still there it uses, and says so, the value of
// now.
func TestPurgedValuesAndRollback(t *testing.T) {
	a := newAPI(t)
	apply := func(name, value, label string) {
		t.Helper()
		a.must("POST", "/api/v1/config/apply", fmt.Sprintf(`{"middleware": [{"name": %q, "type": "headers",
			"labels": {"l": %q}, "config": {"request": {"set": {"A": "Bearer %s"}}},
			"environment": {"config.request.set.A": "Bearer ${env:T}"}}]}`, name, label, value))
	}
	apply("m", "canary-1", "first")
	apply("n", "canary-2", "")
	apply("m", "of-now", "second")
	a.must("DELETE", "/api/v1/config/middleware/n", "")
	r := a.must("POST", "/api/v1/config/history/purge-secrets", "")
	if r.field("values") != 2.0 || r.field("keys") != 0.0 || r.field("revisions") != 4.0 ||
		fmt.Sprint(r.field("fields")) != "[middleware m: config.request.set.A middleware n: config.request.set.A]" {
		t.Errorf("purge: %s", r.raw)
	}
	for n := range 4 {
		r := a.must("GET", fmt.Sprintf("/api/v1/config/revisions/%d", n+1), "")
		if r.field("purged_count") != 1.0 || strings.Contains(r.raw, "canary") || !strings.Contains(r.raw, "${env:T}") {
			t.Errorf("revision %d: %s", n+1, r.raw)
		}
	}
	for _, dry := range []bool{true, false} {
		r = a.call("POST", "/api/v1/config/revisions/2/rollback", fmt.Sprintf(`{"dry_run": %t}`, dry))
		if r.Error.Code != "VALIDATION_FAILED" || len(r.Error.Details) != 1 || r.Error.Details[0]["name"] != "n" ||
			r.Error.Details[0]["field"] != "config.request.set.A" || r.Error.Details[0]["value"] != "Bearer ${env:T}" ||
			!strings.Contains(fmt.Sprint(r.Error.Details[0]["message"]), "was purged from the history: export revision 2") {
			t.Errorf("rollback, dry run %t: %d %s", dry, r.status, r.raw)
		}
	}
	r = a.must("POST", "/api/v1/config/revisions/1/rollback", "")
	if r.field("committed") != true || !strings.Contains(r.raw, "has the value of now: that of revision 1 was purged") {
		t.Errorf("rollback to the first: %s", r.raw)
	}
	m := a.catalog.Current().Config.ByName(config.Middleware, "m").Message.(*configv1.Middleware)
	request := m.GetConfig().GetFields()["request"].GetStructValue().GetFields()["set"].GetStructValue().GetFields()
	if m.GetLabels()["l"] != "first" || request["A"].GetStringValue() != "Bearer of-now" {
		t.Errorf("the rollback led to %v", m)
	}
	// Whoever has the values can go back: as a file has them, with the variable set.
	apply("n", "canary-2", "")
	if r := a.must("POST", "/api/v1/config/revisions/2/rollback", ""); !strings.Contains(r.raw, "has the value of now") {
		t.Errorf("rollback with the value there again: %s", r.raw)
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
