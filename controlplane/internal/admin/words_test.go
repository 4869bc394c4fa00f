package admin

import (
	"regexp"
	"strings"
	"testing"
)

// goNames are what nobody who sends JSON has heard of.
var goNames = regexp.MustCompile(`\b(strconv|protojson|structpb|netip|x509|asn1|uint32|int32|int64|Go ` +
	`value)\b|\b(proto|json|url|time|tls|yaml): `)

// TestErrorsInPlainWords: errors say what is wrong in the words of the API, and which field was meant.
func TestErrorsInPlainWords(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/api/v1/config/services", `{"name": "s", "endpoints": [{"host": "127.0.0.1", "port": 9000}]}`)
	for _, c := range []struct{ name, method, path, body, want string }{
		{"a field with letters in the wrong order", "POST", "/routes", `{"name": "r", "path": "/r", "serivce_id": "s"}`,
			`there is no field "serivce_id"; did you mean "service_id"?`},
		{"a field with a letter too few", "POST", "/routes", `{"name": "r", "path": "/r", "hots": []}`,
			`did you mean "hosts"?`},
		{"a field inside", "POST", "/services", `{"name": "t", "endpoints": [{"hots": "127.0.0.1"}]}`,
			`there is no field "hots"; did you mean "host"?`},
		{"a field in a list", "POST", "/apply", `{"services": [{"name": "t", "protocoll": "http"}]}`,
			`did you mean "protocol"?`},
		{"a kind", "POST", "/apply", `{"rotues": []}`, `did you mean "routes"?`},
		{"a field that nothing is like", "POST", "/routes", `{"name": "r", "colour": "red"}`, `there is no field "colour"`},
		{"a member of a patch", "PATCH", "/services/s", `{"protcol": "http"}`, `did you mean "protocol"?`},
		{"a member of a patch that nothing is like", "PATCH", "/services/s", `{"colour": "red"}`, "there are id, name"},
		{"a mask", "PUT", "/services/s?update_mask=protcol", `{"name": "s"}`, `did you mean`},
		{"a number that is none", "GET", "/routes?page=x", "", `"x" is no whole number`},
		{"a number that is too large", "GET", "/routes?per_page=99999999999", "", `too large`},
		{"a negative number", "GET", "/routes?per_page=-1", "", `per_page: "-1" is below 0`},
		{"a boolean that is none", "GET", "/routes?enabled=maybe", "", `"maybe" is neither true nor false`},
		{"a number in the path", "GET", "/revisions/x", "", `"x" is no whole number`},
		{"a number in a body of parameters", "POST", "/revisions/1/rollback", `{"dry_run": "maybe"}`,
			`"maybe" is neither true nor false`},
		{"a port as text", "POST", "/services", `{"name": "t", "endpoints": [{"host": "h", "port": "x"}]}`, "invalid value"},
		{"a text as number", "POST", "/services", `{"name": 1}`, "invalid value for the string"},
		{"a patch of a wrong type", "PATCH", "/services/s", `{"endpoints": [{"port": "x"}]}`,
			"invalid value for the whole number"},
		{"no JSON", "POST", "/services", `{"name": }`, "looking for beginning of value"},
		{"half of it", "POST", "/services", `{"name": "t"`, "unexpected"},
		{"a list", "POST", "/services", `[]`, "unexpected token ["},
		{"a query that can't be read", "GET", "/routes?a=%zz", "", "invalid URL escape"},
		{"a version that is none", "PATCH", "/services/s", `{"version": "x"}`, "whole number"},
		{"a certificate that is none", "POST", "/certificates",
			`{"name": "c", "cert_pem": "-----BEGIN CERTIFICATE-----\neA==\n-----END CERTIFICATE-----", "key_pem": "x"}`,
			"malformed"},
		{"an expression that is none", "POST", "/routes", `{"name": "r", "path": "~(", "service_id": "s"}`,
			"missing closing )"},
		{"settings of a wrong type", "POST", "/middleware", `{"name": "m", "type": "cors", "config": {"allow_origins": 5}}`,
			"does not fit the settings of cors"},
		{"a duration that is none", "POST", "/policies", `{"name": "p", "timeout": "5 apples"}`, "is no duration such as"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := a.call(c.method, "/api/v1/config"+c.path, c.body)
			if r.status != 400 && r.status != 422 || !strings.Contains(r.Error.Message, c.want) {
				t.Errorf("got %d %s, want %q", r.status, r.raw, c.want)
			}
			if found := goNames.FindString(r.raw); found != "" {
				t.Errorf("%q in %s", found, r.raw)
			}
		})
	}
}
