package admin

import (
	"strings"
	"testing"
)

// TestSecretsStayWhereTheyAreSent: a secret that a middleware keeps does not go to whoever its settings name next. An
// editor who is never shown it would get it so.
func TestSecretsStayWhereTheyAreSent(t *testing.T) {
	const (
		secret = "canary-of-a-client"
		asks   = `"name": "m", "type": "oauth2_introspection", "config": {"client_id": "c", "url": "https://a.example/i"`
		signs  = `"name": "m", "type": "oidc", "config": {"client_id": "c", "issuer": "https://a.example"`
		given  = `, "client_secret": "` + secret + `"`
		sealed = `, "session_secret": "canary-of-sessions-with-32-or-more-bytes"`
		typed  = `, "client_secret": "${env:S}"`
		text   = `, "environment": {"config.client_secret": "${env:S}"}`
		path   = "/api/v1/config/middleware/m"
	)
	moved := func(s string) string { return strings.ReplaceAll(s, "a.example", "b.example") }
	file := func(m string) string { return `{"middleware": [{` + m + `}]}` }
	for _, c := range []struct {
		name, start, method, path, body string
		refused                         bool
	}{
		{"put with another URL", asks + given + `}`, "PUT", path, `{` + moved(asks) + `}}`, true},
		{"put with it empty", asks + given + `}`, "PUT", path, `{` + moved(asks) + `, "client_secret": ""}}`, true},
		{"put with plain HTTP", asks + given + `}`, "PUT", path, `{` + strings.Replace(asks, "https", "http", 1) + `}}`, true},
		{"put with another URL and it again", asks + given + `}`, "PUT", path, `{` + moved(asks+given) + `}}`, false},
		{"put with another client", asks + given + `}`, "PUT", path,
			`{` + strings.Replace(asks, `"c"`, `"d"`, 1) + `}}`, false},
		{"another URL patched", asks + given + `}`, "PATCH", path, `{"config": {"url": "https://b.example/i"}}`, true},
		{"another URL patched and it again", asks + given + `}`, "PATCH", path,
			`{"config": {"url": "https://b.example/i"` + given + `}}`, false},
		{"another URL applied", asks + given + `}`, "POST", "/api/v1/config/apply", file(moved(asks) + `}`), true},
		{"another URL tried", asks + given + `}`, "POST", "/api/v1/config/apply?dry_run=true", file(moved(asks) + `}`), true},
		{"the same URL applied", asks + given + `}`, "POST", "/api/v1/config/apply", file(asks + `}`), false},
		{"another issuer", signs + given + sealed + `}`, "PUT", path, `{` + moved(signs) + `}}`, true},
		{"another issuer of a public client", signs + sealed + `}`, "PUT", path, `{` + moved(signs) + `}}`, false},
		{"the text of a file", asks + given + `}` + text, "PUT", path, `{` + moved(asks+typed) + `}` + text + `}`, true},
		{"the text of a file alone", asks + given + `}` + text, "PUT", path, `{` + moved(asks+typed) + `}}`, true},
		{"the file applied", asks + given + `}` + text, "POST", "/api/v1/config/apply", file(moved(asks+given) + `}` + text),
			false},
		{"the text for another type", asks + given + `}` + text, "PUT", path, `{` + signs + typed + sealed + `}` + text + `}`,
			true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAPI(t)
			a.must("POST", "/api/v1/config/apply", file(c.start))
			before := a.catalog.Current().Revision
			r := a.call(c.method, c.path, c.body)
			switch {
			case strings.Contains(r.raw, "canary"):
				t.Errorf("it shows %s", r.raw)
			case !c.refused && r.status != 200:
				t.Errorf("%d %s", r.status, r.raw)
			case c.refused && (r.status != 422 || !strings.Contains(r.raw, "config.client_secret") ||
				!strings.Contains(r.raw, "has to be given again")):
				t.Errorf("%d %s", r.status, r.raw)
			case c.refused && a.catalog.Current().Revision != before:
				t.Error("it is committed")
			}
		})
	}
}

// TestSecretsAreNotTakenByAnotherType: settings of another type that leave their secret out have none.
func TestSecretsAreNotTakenByAnotherType(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/api/v1/config/apply", `{"middleware": [{"name": "m", "type": "oidc", "config": {"client_id": "c",
		"issuer": "https://a.example", "client_secret": "canary-of-a-client",
		"session_secret": "canary-of-sessions-with-32-or-more-bytes"}}]}`)
	r := a.call("PUT", "/api/v1/config/middleware/m", `{"name": "m", "type": "oauth2_introspection",
		"config": {"client_id": "c", "url": "https://b.example/i"}}`)
	if r.status != 422 || !strings.Contains(r.raw, "is required") {
		t.Errorf("%d %s", r.status, r.raw)
	}
}
