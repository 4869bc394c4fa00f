package file

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"gateway.internal/shared/config"
)

// same says that two texts are the same configuration.
func same(t *testing.T, name, text, want string) *Document {
	t.Helper()
	a, err := load(text)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return nil
	}
	b, err := load(want)
	if err != nil {
		t.Fatal(name, err)
	}
	if d := cmp.Diff(b.Configuration, a.Configuration, protocmp.Transform()); d != "" {
		t.Errorf("%s (-want +got)\n%s", name, d)
	}
	return a
}

func TestMergeKeys(t *testing.T) {
	const want = "services:\n  - {name: a, protocol: h2c, pipeline_id: p, labels: {x: '1', y: '2'}}\n"
	for _, c := range []struct{ name, text string }{
		{"one", "x-base: &base {protocol: h2c, pipeline_id: p}\nservices:\n  - {<<: *base, name: a, labels: {x: '1', y: " +
			"'2'}}\n"},
		{"its own goes first", "x-base: &base {protocol: http, pipeline_id: p}\nservices:\n  - {name: a, protocol: h2c, " +
			"<<: *base, labels: {x: '1', y: '2'}}\n"},
		{"its own goes first, after it", "x-base: &base {protocol: http, pipeline_id: p}\nservices:\n  - {<<: *base, " +
			"protocol: h2c, name: a, labels: {x: '1', y: '2'}}\n"},
		{"several, the first goes first", "x-one: &one {protocol: h2c}\nx-two: &two {protocol: http, pipeline_id: " +
			"p}\nservices:\n  - {<<: [*one, *two], name: a, labels: {x: '1', y: '2'}}\n"},
		{"merged mappings merge", "x-one: &one {protocol: h2c}\nx-two: &two {<<: *one, pipeline_id: p}\nservices:\n  - " +
			"{<<: *two, name: a, labels: {x: '1', y: '2'}}\n"},
		{"as written", "services:\n  - <<: {protocol: h2c, pipeline_id: p}\n    name: a\n    labels: {<<: {x: '1', y: " +
			"'3'}, y: '2'}\n"},
		{"of another resource", "x-other: [&a {name: b, protocol: h2c, pipeline_id: p}]\nservices:\n  - {<<: *a, name: " +
			"a, labels: {x: '1', y: '2'}}\n"},
		{"whole values", "x-all:\n  labels: &labels {x: '1', y: '2'}\n  name: &name a\nservices:\n  - {name: *name, " +
			"protocol: h2c, pipeline_id: p, labels: *labels}\n"},
		{"whole lists", "x-all: &all\n  - {name: a, protocol: h2c, pipeline_id: p, labels: {x: '1', y: '2'}}\nservices: " +
			"*all\n"},
	} {
		same(t, c.name, c.text, want)
	}
	same(t, "in a config", "x-h: &h {set: {A: a, B: b}}\nmiddleware:\n  - {name: m, type: headers, config: {request: "+
		"{<<: *h, remove: [C]}}}\n",
		"middleware:\n  - {name: m, type: headers, config: {request: {set: {A: a, B: b}, remove: [C]}}}\n")
	same(t, "in quotes it is a key", "services: [{name: a, labels: {\"<<\": x}}]\n",
		"services: [{name: a, labels: {'<<': x}}]\n")

	doc := same(t, "place", "x-base: &base\n  protocol: nonsense\nservices:\n  - <<: *base\n    name: a\n",
		"services: [{name: a, protocol: nonsense}]\n")
	if _, line, column, ok := doc.Position("services[0]", "protocol"); !ok || line != 2 || column != 13 {
		t.Errorf("what is merged stands at %d:%d", line, column)
	}

	bomb := "x-a: &a {labels: {x: y}}\n"
	for i := range 20 {
		from := string(rune('a' + i))
		bomb += "x-" + string(rune('b'+i)) + ": &" + string(rune('b'+i)) + " {<<: [" + strings.Repeat("*"+from+", ",
			9) + "*" + from + "]}\n"
	}
	for _, c := range []struct{ name, text, want string }{
		{"a text", "services:\n  - {<<: a, name: a}\n", "-:2:10: << has to be followed by a mapping"},
		{"a list of texts", "services:\n  - {<<: [a], name: a}\n", "-:2:11: << has to be followed by mappings"},
		{"a wrong field", "x-a: &a\n  paht: /\nroutes:\n  - {<<: *a, name: a}\n", `-:2:3: route has no field "paht"`},
		{"a key twice beside it", "x-a: &a {path: /}\nroutes:\n  - {<<: *a, name: a, name: b}\n", `"name" is there twice`},
		{"a bomb", bomb + "services:\n  - {<<: *u, name: a}\n", "all aliases stand for more than"},
		{"in a circle", "services:\n  - &a {name: a, <<: *a}\n", "*a is a part of what it stands for"},
		{"no place for anchors", "y-a: {}\n", `there is no kind "y-a"`},
	} {
		if _, err := load(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("GATEWAY_TEST_TOKEN", "s3cret-token")
	t.Setenv("GATEWAY_TEST_PORT", "9000")
	t.Setenv("GATEWAY_TEST_ON", "true")
	t.Setenv("GATEWAY_TEST_EMPTY", "")
	const text = `services:
  - name: a
    endpoints: [{host: "${env:GATEWAY_TEST_TOKEN}.test", port: "${env:GATEWAY_TEST_PORT}"}]
    labels: {a: "x${env:GATEWAY_TEST_EMPTY}", "${env:NONE}": key, b: "$${env:NONE} $$${env:NONE} $ {env:NONE} ${other}"}
routes:
  - name: r
    path: /
    hosts: [a.test, "${env:GATEWAY_TEST_TOKEN}.test"]
    enabled: ${env:GATEWAY_TEST_ON}
middleware:
  - name: m
    type: headers
    config:
      request: {set: {Authorization: "Bearer ${env:GATEWAY_TEST_TOKEN}", List: [a, "${env:GATEWAY_TEST_TOKEN}"]}}
`
	doc, err := load(text)
	if err != nil {
		t.Fatal(err)
	}
	c := doc.Configuration
	s, r, m := c.GetServices()[0], c.GetRoutes()[0], c.GetMiddleware()[0]
	if e := s.GetEndpoints()[0]; e.GetHost() != "s3cret-token.test" || e.GetPort() != 9000 ||
		r.GetHosts()[1] != "s3cret-token.test" || !r.GetEnabled() {
		t.Errorf("%v %v", s, r)
	}
	if l := s.GetLabels(); l["a"] != "x" || l["${env:NONE}"] != "key" ||
		l["b"] != "${env:NONE} $${env:NONE} $ {env:NONE} ${other}" {
		t.Errorf("%v", l)
	}
	want := map[string]string{
		"config.request.set.Authorization": "Bearer ${env:GATEWAY_TEST_TOKEN}",
		"config.request.set.List[1]":       "${env:GATEWAY_TEST_TOKEN}",
	}
	if d := cmp.Diff(want, m.GetEnvironment()); d != "" {
		t.Error(d)
	}
	if s.GetEnvironment()["endpoints[0].host"] != "${env:GATEWAY_TEST_TOKEN}.test" ||
		r.GetEnvironment()["hosts[1]"] == "" {
		t.Errorf("%v %v", s.GetEnvironment(), r.GetEnvironment())
	}
	for _, message := range []config.Message{s, r, m} {
		config.EachText(config.Redacted(message), func(path, value string) string {
			if strings.Contains(value, "s3cret") {
				t.Errorf("%s is shown as %s", path, value)
			}
			return value
		})
	}
	if hidden := doc.Hide(`hosts[1] "s3cret-token.test" is no host`); strings.Contains(hidden, "s3cret") {
		t.Error(hidden)
	}
	// What is written has the references again, and is read as the same.
	out, err := Marshal(c)
	if err != nil || strings.Contains(string(out), "s3cret") || !strings.Contains(string(out),
		"Bearer ${env:GATEWAY_TEST_TOKEN}") {
		t.Fatalf("%v\n%s", err, out)
	}
	again, err := load(string(out))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c, again.Configuration, protocmp.Transform()); d != "" {
		t.Error(d)
	}
	for _, c := range []struct{ name, text, want string }{
		{"a variable that is not set", "routes:\n  - {name: a, path: \"/${env:GATEWAY_TEST_NONE}\"}\n",
			"-:2:21: the environment has no variable GATEWAY_TEST_NONE"},
		{"no name", "routes:\n  - {name: a, path: \"/${env:}\"}\n", "names no variable"},
		{"a wrong name", "routes:\n  - {name: a, path: \"/${env:A-B}\"}\n", "names no variable"},
		{"no end", "routes:\n  - {name: a, path: \"/${env:A\"}\n", "names no variable"},
		{"no number", "services: [{name: a, endpoints: [{host: h, port: \"${env:GATEWAY_TEST_TOKEN}\"}]}]\n",
			"port has to be a whole number"},
	} {
		_, err := load(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestUnsetVariables: what names a variable that is not set is one error, or stays as it is where that is asked for and
// the text may be of the environment.
func TestUnsetVariables(t *testing.T) {
	with := func(keep bool, text string) (*Document, error) {
		return LoadWith([]string{"-"}, strings.NewReader(text), &Resolver{KeepUnset: keep,
			LookupEnv: func(name string) (string, bool) { return "s3cret-value", name == "SET" }})
	}
	const text = `x-set: &set {set: {Authorization: "$${env:X} ${env:SET} ${env:GONE} ${env:LOST}"}}
middleware:
  - {name: one, type: headers, config: {request: *set}}
  - {name: two, type: headers, labels: {a: "${env:SET}"}, config: {request: *set}}
`
	doc, err := with(true, text)
	if err != nil {
		t.Fatal(err)
	}
	const path, kept = "config.request.set.Authorization", "$${env:X} ${env:SET} ${env:GONE} ${env:LOST}"
	want := []Unset{{"GONE", "middleware[0]", path}, {"GONE", "middleware[1]", path}}
	if d := cmp.Diff(want, doc.Unset()); d != "" {
		t.Error(d)
	}
	for _, m := range doc.Configuration.GetMiddleware() {
		value := ""
		config.EachText(m, func(at, text string) string {
			if at == path {
				value = text
			}
			return text
		})
		if value != kept || m.GetEnvironment()[path] != kept {
			t.Errorf("%v", m)
		}
	}
	if l := doc.Configuration.GetMiddleware()[1]; l.GetLabels()["a"] != "s3cret-value" || len(l.GetEnvironment()) != 2 {
		t.Errorf("%v", l)
	}
	for _, c := range []struct {
		name string
		keep bool
		text string
		want string
	}{
		{"not asked for", false, "routes:\n  - {name: a, path: \"/${env:GONE}\"}\n",
			"-:2:21: the environment has no variable GONE"},
		{"a number", true, "services: [{name: a, endpoints: [{host: h, port: \"${env:GONE}\"}]}]\n",
			"-:1:50: the environment has no variable GONE"},
		{"a boolean", true, "routes: [{name: a, enabled: \"${env:GONE}\"}]\n",
			"-:1:29: the environment has no variable GONE"},
		{"a name", true, "routes: [{name: \"${env:GONE}\"}]\n", "-:1:17: the environment has no variable GONE"},
		{"a reference", true, "routes: [{name: a, service_id: \"${env:GONE}\"}]\n",
			"-:1:32: the environment has no variable GONE"},
		{"a file", true, "certificates: [{name: a, cert_file: \"${env:GONE}\"}]\n",
			"-:1:37: cert_file the environment has no variable GONE"},
		{"a name that is none", true, "routes: [{name: a, path: \"${env:GONE}${env:A-B}\"}]\n",
			`-:1:26: "${env:A-B}" names no variable of the environment`},
		{"a setting", false, "middleware: [{name: a, type: cors, config: {max_age: \"${env:GONE}\"}}]\n",
			"-:1:54: the environment has no variable GONE"},
	} {
		_, err := with(c.keep, c.text)
		errs, _ := errors.AsType[Errors](err)
		if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), c.want) {
			t.Errorf("%s: %v, want %q alone", c.name, err, c.want)
		}
	}
}

func TestReferredFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"tls/tls.crt": "CERT", "tls/tls.key": "KEY", "ca.pem": "CA",
		"big": strings.Repeat("x", MaxReferredBytes+1)} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GATEWAY_TEST_DIR", filepath.Join(dir, "tls"))
	from := func(text string) (*Document, *Resolver, error) {
		path := filepath.Join(dir, "a.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := &Resolver{}
		doc, err := LoadWith([]string{path}, nil, r)
		return doc, r, err
	}
	doc, r, err := from("certificates:\n  - name: a\n    cert_file: tls/tls.crt\n    key_file: " +
		"\"${env:GATEWAY_TEST_DIR}/tls.key\"\n    client_auth: {mode: required, ca_file: ca.pem}\n")
	if err != nil {
		t.Fatal(err)
	}
	if m := doc.Configuration.GetCertificates()[0]; m.GetCertPem() != "CERT" || m.GetKeyPem() != "KEY" ||
		m.GetClientAuth().GetCaPem() != "CA" || len(m.GetEnvironment()) != 0 {
		t.Errorf("%v", m)
	}
	want := []string{filepath.Join(dir, "tls/tls.crt"), filepath.Join(dir, "tls/tls.key"), filepath.Join(dir, "ca.pem")}
	if !slices.Equal(r.Files(), want) {
		t.Errorf("refers to %q", r.Files())
	}
	if _, line, column, ok := doc.Position("certificates[0]", "key_pem"); !ok || line != 4 || column != 15 {
		t.Errorf("the key stands at %d:%d", line, column)
	}
	for _, c := range []struct{ name, text, want string }{
		{"none there", "certificates: [{name: a, cert_file: gone}]\n", "a.yaml:1:37: cert_file can't be read"},
		{"beside what it has", "certificates: [{name: a, cert_file: ca.pem, cert_pem: x}]\n",
			`"cert_file" and "cert_pem" can't be together`},
		{"after what it has", "certificates: [{name: a, cert_pem: x, cert_file: ca.pem}]\n",
			`"cert_pem" and "cert_file" can't be together`},
		{"too large", "certificates: [{name: a, cert_file: big}]\n", "is larger than 1 MiB"},
		{"a FIFO", "certificates: [{name: a, cert_file: fifo}]\n", "is no file that can be read as a whole"},
		{"a folder", "certificates: [{name: a, cert_file: tls}]\n", "is no file that can be read as a whole"},
		{"no name", "certificates: [{name: a, cert_file: ''}]\n", "names no file"},
		{"a mapping", "certificates: [{name: a, cert_file: {}}]\n", "has to be the name of a file"},
		{"of a field without such text", "routes: [{name: a, path_file: tls.key}]\n", `route has no field "path_file"`},
	} {
		if _, _, err := from(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
