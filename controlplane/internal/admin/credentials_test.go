package admin

import (
	"encoding/json"
	"strings"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/credential"
)

// dataOf is the data of an answer, as JSON.
func dataOf(t *testing.T, r *reply) string {
	t.Helper()
	raw, err := json.Marshal(r.Data)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// canaries are secrets, and what begins their hashes: no answer has any of them.
var canaries = []string{
	"canary-of-an-api-key", "canary-of-another-key", "canary of a password", "canary-of-hmac-secret", "sha256:",
	"$argon2id$",
}

func without(t *testing.T, what string, text string) {
	t.Helper()
	for _, c := range canaries {
		if strings.Contains(text, c) {
			t.Errorf("%s has %s: %s", what, c, text)
		}
	}
}

const withCredentials = `{"name": "shop", "credentials": {
	"api_keys": [{"name": "k", "key": "canary-of-an-api-key"}],
	"basic": [{"username": "ann", "password": "canary of a password"}],
	"certificates": [{"subject": "CN=shop"}],
	"hmac": [{"id": "h", "secret": "canary-of-hmac-secret"}]}}`

// TestAnswersHaveNoCredentials: neither of those that succeed nor of those that fail.
func TestAnswersHaveNoCredentials(t *testing.T) {
	a := newAPI(t)
	const consumers = "/api/v1/config/consumers"
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", consumers, withCredentials, 201},
		{"POST", consumers, withCredentials, 409},
		{"GET", consumers, "", 200},
		{"GET", consumers + "/shop", "", 200},
		{"PATCH", consumers + "/shop", `{"groups": ["eu"]}`, 200},
		{"PUT", consumers + "/shop", `{"groups": ["us"], "credentials": {"api_keys": [{"name": "k"}],
			"basic": [{"username": "ann"}], "hmac": [{"id": "h"}]}}`, 200},
		{"PATCH", consumers + "/shop", `{"credentials": {"api_keys": [{"name": "k", "key": "canary-of-another-key"}]}}`, 200},
		{"PATCH", consumers + "/shop", `{"credentials": {"api_keys": [{"name": "k", "key": "canary-of-another-key "}]}}`,
			422},
		{"PATCH", consumers + "/shop", `{"credentials": {"api_keys": "canary-of-another-key"}}`, 400},
		{"PATCH", consumers + "/shop", `{"credentials": {"hmac": [{"id": "h", "secret": ["canary-of-hmac-secret"]}]}}`, 400},
		{"POST", consumers, strings.Replace(withCredentials, "shop", "other", 1), 422},
		{"POST", "/api/v1/config/apply", `{"consumers": [` + withCredentials + `]}`, 200},
		{"POST", "/api/v1/config/apply", `{"consumers": [` + withCredentials + `]}`, 200},
		{"POST", "/api/v1/config/validate", `{"consumers": [` + withCredentials + `]}`, 200},
		{"POST", "/api/v1/config/diff", `{"consumers": [` + withCredentials + `]}`, 200},
		{"GET", "/api/v1/config/export", "", 200},
		{"GET", "/api/v1/config/revisions", "", 200},
		{"GET", "/api/v1/config/revisions/1", "", 200},
		{"GET", "/api/v1/config/revisions/4", "", 200},
		{"POST", "/api/v1/config/revisions/1/rollback", "{}", 200},
		{"DELETE", consumers + "/shop", "", 200},
	} {
		r := a.call(c.method, c.path, c.body)
		if r.status != c.status {
			t.Errorf("%s %s: %d, want %d: %s", c.method, c.path, r.status, c.status, r.raw)
		}
		without(t, c.method+" "+c.path, r.raw)
	}
}

// TestCredentialsLeftOutStay, and the same again is no change.
func TestCredentialsLeftOutStay(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/api/v1/config/consumers", withCredentials)
	now := func() *configv1.Credentials {
		return a.server.catalog.Current().Config.ByName(config.Consumer, "shop").Message.(*configv1.Consumer).GetCredentials()
	}
	before := now()
	exported := a.must("GET", "/api/v1/config/export", "")
	revision := exported.Meta.Revision
	for _, text := range []string{`{"consumers": [` + withCredentials + `]}`, dataOf(t, exported)} {
		if r := a.must("POST", "/api/v1/config/apply", text); r.Meta.Revision != revision {
			t.Errorf("it is a change: %s", r.raw)
		}
	}
	a.must("PATCH", "/api/v1/config/consumers/shop", `{"labels": {"a": "b"}}`)
	after := now()
	if after.GetApiKeys()[0].GetKey() != credential.StoredKey("canary-of-an-api-key") ||
		after.GetBasic()[0].GetPassword() != before.GetBasic()[0].GetPassword() ||
		after.GetHmac()[0].GetSecret() != "canary-of-hmac-secret" {
		t.Errorf("%v became %v", before, after)
	}
	r := a.must("PATCH", "/api/v1/config/consumers/shop", `{"credentials": {"api_keys": null}}`)
	if len(now().GetApiKeys()) > 0 || len(now().GetHmac()) == 0 {
		t.Errorf("%s", r.raw)
	}
}

// TestKeysThatTheServerMakes are in one answer and in no other, and a change to another key says that it is one.
func TestKeysThatTheServerMakes(t *testing.T) {
	a := newAPI(t)
	keyIn := func(r *reply) string {
		var c struct {
			Credentials struct {
				APIKeys []struct {
					Key string `json:"generated_key"`
				} `json:"api_keys"`
			}
		}
		if err := json.Unmarshal([]byte(dataOf(t, r)), &c); err != nil || len(c.Credentials.APIKeys) == 0 {
			t.Fatalf("%v: %s", err, r.raw)
		}
		return c.Credentials.APIKeys[0].Key
	}
	const path = "/api/v1/config/consumers/shop"
	made := keyIn(a.must("POST", "/api/v1/config/consumers",
		`{"name": "shop", "credentials": {"api_keys": [{"name": "k"}]}}`))
	if credential.CheckKey(made) != nil || len(made) < 40 {
		t.Errorf("the key is %q", made)
	}
	if e := a.server.catalog.Current().Config.ByCredential(config.APIKey, credential.StoredKey(made)); e == nil {
		t.Error("it is not the consumer's")
	}
	if r := a.must("GET", path, ""); keyIn(r) != "" {
		t.Errorf("it is shown again: %s", r.raw)
	}
	if r := a.must("PUT", path, `{"credentials": {"api_keys": [{"name": "k"}]}, "groups": ["eu"]}`); keyIn(r) != "" {
		t.Errorf("it is made again: %s", r.raw)
	}
	other := keyIn(a.must("PUT", path, `{"credentials": {"api_keys": [{"name": "k2"}]}}`))
	if other == "" || other == made {
		t.Errorf("the key of another name is %q", other)
	}
	const file = `{"consumers": [{"name": "x", "credentials": {"api_keys": [{"name": "k"}]}}]}`
	if r := a.call("POST", "/api/v1/config/apply", file); r.status != 422 || !strings.Contains(r.raw, "is required") {
		t.Errorf("a file without a key: %d %s", r.status, r.raw)
	}
}

// TestConsumersOfHostileTexts: what would end a statement of SQL or a text of YAML is a text, and comes back as it was.
func TestConsumersOfHostileTexts(t *testing.T) {
	a := newAPI(t)
	for _, s := range []string{
		`'; DROP TABLE consumers; --`, `" OR "1"="1`, `$1`, `\`, `%s%n`, `}]}`, `- a: b`, `!!binary x`, `&a *a`,
		`${x}`, `<script>`, "a #b", `{{.}}`, `null`, `~`, "\u202e", "ü\u0301",
	} {
		user := map[string]string{"username": strings.ReplaceAll(s, ":", ";"), "password": s}
		raw, err := json.Marshal(map[string]any{
			"name": "hostile", "labels": map[string]string{s: s}, "credentials": map[string]any{"basic": []any{user}},
		})
		if err != nil {
			t.Fatal(err)
		}
		a.must("PUT", "/api/v1/config/consumers/hostile?allow_missing=true", string(raw))
		r := a.must("GET", "/api/v1/config/consumers/hostile", "")
		var c struct {
			Labels      map[string]string
			Credentials struct{ Basic []struct{ Username string } }
		}
		if err := json.Unmarshal([]byte(dataOf(t, r)), &c); err != nil {
			t.Fatal(err)
		}
		if c.Labels[s] != s || c.Credentials.Basic[0].Username != strings.ReplaceAll(s, ":", ";") {
			t.Errorf("%q came back as %+v", s, c)
		}
		exported := a.must("GET", "/api/v1/config/export", "")
		again := a.must("POST", "/api/v1/config/apply", dataOf(t, exported))
		if again.Meta.Revision != exported.Meta.Revision {
			t.Errorf("%q: the export is a change", s)
		}
	}
}
