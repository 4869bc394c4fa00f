package admin

import (
	"encoding/json"
	"strings"
	"testing"

	"gateway.internal/shared/certtest"
)

// A key can't be removed: null, which says so, must not be taken for "as it is".
func TestPatchOfAKey(t *testing.T) {
	a := newAPI(t)
	made := certtest.For(t, "a.test")
	cert, key := made.CertPEM, made.KeyPEM
	text := func(s string) string {
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	a.must("POST", "/api/v1/config/certificates", `{"name": "c", "cert_pem": `+text(cert)+`, "key_pem": `+text(key)+`}`)
	for patch, status := range map[string]int{
		`{"key_pem": null}`: 400, `{"keyPem": null}`: 400, `{"key_pem": ""}`: 400, `{"key_pem": null, "acme": {}}`: 400,
		`{"cert_pem": null}`: 422, `{"labels": {"a": "b"}}`: 200,
		`{"obtained": {"directory_url": "https://elsewhere.example/dir"}}`: 200,
	} {
		r := a.call("PATCH", "/api/v1/config/certificates/c", patch)
		if r.status != status || status == 400 && !strings.Contains(r.raw, "leave the field out") ||
			strings.Contains(r.raw, `"obtained":{`) {
			t.Errorf("%s: %d %s", patch, r.status, r.raw)
		}
	}
}

// TestValidateTakesExports: an export has no keys, and what it was made of was valid.
func TestValidateTakesExports(t *testing.T) {
	a := newAPI(t)
	made := certtest.For(t, "a.test")
	cert, key := made.CertPEM, made.KeyPEM
	raw, err := json.Marshal(map[string]any{"name": "c", "cert_pem": cert, "key_pem": key})
	if err != nil {
		t.Fatal(err)
	}
	a.must("POST", "/api/v1/config/certificates", string(raw))
	exported, err := json.Marshal(a.must("GET", "/api/v1/config/export", "").Data)
	if err != nil || strings.Contains(string(exported), "PRIVATE") {
		t.Fatalf("%v %s", err, exported)
	}
	if r := a.must("POST", "/api/v1/config/validate", string(exported)); r.field("valid") != true {
		t.Errorf("the export is not valid: %s", r.raw)
	}
	other := strings.ReplaceAll(string(exported), `"name":"c"`, `"name":"d"`)
	if r := a.must("POST", "/api/v1/config/validate", other); r.field("valid") != false || !strings.Contains(r.raw,
		"key_pem") {
		t.Errorf("a certificate whose key is nowhere is valid: %s", r.raw)
	}
}
