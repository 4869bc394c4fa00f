package admin

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestTextsOfTheEnvironment puts resources back as they are shown, with the text of a file for what it took from the
// environment.
func TestTextsOfTheEnvironment(t *testing.T) {
	const (
		path    = "/api/v1/config/middleware/m"
		start   = `{"name": "m", "type": "headers", "config": {"request": {"set": {"B": "b", "A": `
		applied = `{"middleware": [` + start + `"s3cret"}}}, "environment": {"config.request.set.A": "${env:T}", ` +
			`"labels.gone": "x"}}]}`
		shown    = start + `"${env:T}"}}}, "environment": {"config.request.set.A": "${env:T}"}`
		isMasked = `"A":"${env:T}"`

		isMaskedValue = `"value":"${env:T}"`
	)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		want                     string
		value                    string // that is stored
	}{
		{"put back", "PUT", path, shown + `}`, 200, isMasked, "s3cret"},
		{"put back with a label", "PUT", path, shown + `, "labels": {"x": "y"}}`, 200, isMasked, "s3cret"},
		{"validated as it is shown", "POST", "/api/v1/config/validate", `{"middleware": [` + shown + `}]}`, 200,
			`"valid":true`, "s3cret"},
		{"compared as it is shown", "POST", "/api/v1/config/diff", `{"middleware": [` + shown + `}]}`, 200, `"data":[]`,
			"s3cret"},
		{"a wrong text for a duration", "POST", "/api/v1/config/validate", `{"middleware": [{"name": "x", "type": "cors",
			"config": {"allow_origins": ["*"], "max_age": "${env:T}"}, "environment": {"config.max_age": "${env:T}"}}]}`, 200,
			`"problems":[{"kind":"middleware","name":"x","field":"config.max_age","value":"${env:T}","message":"iswhatafile` +
				`has,andnovalueofitisstored:applythefilewherethevariableisset,orgivethevalue","location":"middleware[0]"}]`,
			"s3cret"},
		{"another field patched", "PATCH", path, `{"labels": {"x": "y"}}`, 200, isMasked, "s3cret"},
		{"a value that is typed", "PATCH", path, `{"config": {"request": {"set": {"A": "typed"}}}}`, 200,
			`"A":"typed"`, "typed"},
		{"a value that is put", "PUT", path, strings.Replace(shown, `"A": "${env:T}"`, `"A": "put"`, 1) + `}`, 200,
			`"A":"put"`, "put"},
		{"for another resource", "PUT", "/api/v1/config/middleware/n", strings.Replace(shown, `"m"`, `"n"`, 1) + `}`,
			422, "no value of it is stored", "s3cret"},
		{"another variable", "PUT", path, strings.ReplaceAll(shown, "env:T", "env:U") + `}`, 422,
			"no value of it is stored", "s3cret"},
		{"applied as it is shown", "POST", "/api/v1/config/apply", `{"middleware": [` + shown + `}]}`, 200,
			`"changes":[]`, "s3cret"},
		{"where it is from taken away", "PATCH", path, `{"environment": null}`, 200, isMasked, "s3cret"},
		{"where it is from changed", "PATCH", path, `{"environment": {"config.request.set.A": "x"}}`, 200, isMasked,
			"s3cret"},
		{"put back without where it is from", "PUT", path, start + `"${env:T}"}}}}`, 200, isMasked, "s3cret"},
		{"enabled", "POST", path + "/disable", "", 200, isMasked, "s3cret"},
		{"a value that is wrong", "POST", "/api/v1/config/apply", strings.Replace(applied, "s3cret", `s3cret\r\nX: y`, 1),
			422, isMaskedValue, "s3cret"},
	} {
		a := newAPI(t)
		a.must("POST", "/api/v1/config/apply", applied)
		r := a.call(c.method, c.path, c.body)
		if r.status != c.status || !strings.Contains(strings.ReplaceAll(r.raw, " ", ""), strings.ReplaceAll(c.want,
			" ", "")) || strings.Contains(r.raw, "s3cret") {
			t.Errorf("%s: %d %s", c.name, r.status, r.raw)
		}
		if r := a.must("GET", path, ""); strings.Contains(r.raw, "labels.gone") || strings.Contains(r.raw, "s3cret") {
			t.Errorf("%s: %s", c.name, r.raw)
		}
		// Whoever applies the value that is stored changes nothing.
		again := strings.Replace(applied, "s3cret", c.value, 1)
		r = a.must("POST", "/api/v1/config/apply?dry_run=true", again)
		if strings.Contains(r.raw, "another value") {
			t.Errorf("%s: the value was not kept: %s", c.name, r.raw)
		}
	}
}

// A certificate whose key is of the environment is exported without both, and is the same when that is applied.
func TestKeysOfTheEnvironment(t *testing.T) {
	a := newAPI(t)
	body, key := certificateJSON(t, "c")
	a.must("POST", "/api/v1/config/apply", `{"certificates": [`+strings.TrimSuffix(body, "}")+
		`, "environment": {"key_pem": "${env:KEY}"}}]}`)
	shown := a.must("GET", "/api/v1/config/certificates/c", "")
	exported := a.must("GET", "/api/v1/config/export", "")
	certificate, _ := json.Marshal(shown.field("cert_pem"))
	r := a.must("POST", "/api/v1/config/apply", `{"certificates": [{"name": "c", "cert_pem": `+string(certificate)+`}]}`)
	if r.Meta.Revision != 1 {
		t.Errorf("what is shown was applied as a change: %s", r.raw)
	}
	secret := strings.Split(key, "\n")[1]
	for _, reply := range []*reply{shown, exported, r, a.must("GET", "/api/v1/config/revisions/1", "")} {
		if strings.Contains(reply.raw, secret) {
			t.Errorf("the key is shown: %s", reply.raw)
		}
	}
}
