package file

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"gateway.internal/shared/config"
)

const example = `services:
  - name: users
    protocol: http
    endpoints: [{host: 127.0.0.1, port: 9000, weight: 3}, {host: 127.0.0.1, port: 9001}]
    health_check_config: {path: /healthz, interval: 1s}
routes:
  - {name: users-api, path: /api/v1/users/*, methods: [GET, POST], service_id: users, pipeline_id: front}
  - name: on
    path: /on
    headers: [{name: X-Beta, exact: yes}]
    direct_response: {status: 204}
middleware:
  - {name: stamp, type: headers, order: 10, config: {request: {set: {X-Gateway: "yes"}}}}
---
pipelines:
  - {name: front, middleware_ids: [stamp]}
policies:
  - {name: strict, timeout: 5s, max_request_bytes: 1048576}
`

func load(text string) (*Document, error) { return Load([]string{"-"}, strings.NewReader(text)) }

func TestRoundTrip(t *testing.T) {
	doc, err := load(example)
	if err != nil {
		t.Fatal(err)
	}
	if v := doc.Configuration.GetRoutes()[1].GetHeaders()[0].GetExact(); v != "yes" {
		t.Errorf("a string field took %q for yes", v)
	}
	out, err := Marshal(doc.Configuration)
	if err != nil {
		t.Fatal(err)
	}
	again, err := load(string(out))
	if err != nil {
		t.Fatalf("%s\n%v", out, err)
	}
	if d := cmp.Diff(doc.Configuration, again.Configuration, protocmp.Transform()); d != "" {
		t.Errorf("(-first +second)\n%s", d)
	}
}

func TestPlanAndDeclarative(t *testing.T) {
	doc, err := load(example)
	if err != nil {
		t.Fatal(err)
	}
	opts := config.PlanOptions{Now: time.Unix(1, 0), NewID: uuid.NewString}
	plan, err := config.Empty().Plan(Edits(doc.Configuration), opts)
	if err != nil {
		t.Fatal(err)
	}
	again := Declarative(plan.Config)
	next, err := plan.Config.Plan(Edits(again), opts)
	if err != nil {
		t.Fatal(err)
	}
	if len(next.Changes) != 0 {
		t.Errorf("applying what was exported changes %d resources", len(next.Changes))
	}
}

func TestErrorsHaveLines(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no YAML", "services:\n  - name: 'a\n", "-:2:11: is no YAML: the quote that is opened here is never closed"},
		{"no YAML, by tabs", "services:\n  - name: a\n\tprotocol: http\n",
			"-:3:1: is no YAML: lines are indented with spaces"},
		{"no mapping", "- a\n", "-:1:1: a document has to be a mapping"},
		{"unknown kind", "service: []\n", `-:1:1: there is no kind "service"; did you mean "services"?`},
		{"unknown field", "routes:\n  - name: a\n    paht: /x\n", `-:3:5: route has no field "paht"`},
		{"letters in the wrong order", "routes:\n  - name: a\n    serivce_id: x\n",
			`-:3:5: route has no field "serivce_id"; did you mean "service_id"?`},
		{"a letter too few", "routes:\n  - {name: a, hots: [b]}\n",
			`-:2:15: route has no field "hots"; did you mean "hosts"?`},
		{"the first half", "services:\n  - {name: a, health_check: {}}\n",
			`service has no field "health_check"; did you mean "health_check_config"?`},
		{"nothing near", "routes:\n  - {name: a, colour: red}\n", `route has no field "colour"; there are id, name,`},
		{"duplicate key", "routes:\n  - name: a\n    name: b\n", `-:3:5: "name" is there twice`},
		{"wrong type", "routes:\n  - {name: a, priority: high}\n",
			`-:2:25: priority has to be a whole number from -2147483648 to 2147483647, not "high"`},
		{"no list", "routes: {a: b}\n", "-:1:9: routes has to be a list"},
		{"list for a string", "routes:\n  - {name: [a]}\n", "-:2:12: name has to be a single value"},
		{"too large a number", "routes:\n  - {name: a, priority: 99999999999}\n",
			`-:2:25: priority has to be a whole number from -2147483648 to 2147483647, not "99999999999"`},
		{"negative port", "services:\n  - {name: a, endpoints: [{host: h, port: -1}]}\n", "port has to be a whole number from 0"},
		{"duplicate name", "routes:\n  - {name: a}\n  - {name: a}\n", `-:3:5: route "a" is there twice; first at -:2`},
		{"two of a oneof", "routes:\n  - {name: a, headers: [{name: x, exact: a, regex: b}]}\n", `"exact" and "regex" can't be together`},
	} {
		_, err := load(c.text)
		var errs Errors
		if !errors.As(err, &errs) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestFolderAndPosition(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.yaml": "services:\n  - name: one\n", "b.json": `{"services":[{"name":"two","endpoints":[{"host":"h","port":1}]}]}`, "c.txt": "ignored",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := Load([]string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	path, line, column, ok := doc.Position("services[1]", "endpoints[0].port")
	if !ok || filepath.Base(path) != "b.json" || line != 1 || column != 60 {
		t.Errorf("got %s:%d:%d, %v", path, line, column, ok)
	}
	if _, err := Load([]string{filepath.Join(dir, "none")}, nil); err == nil {
		t.Error("a file that is not there was read")
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(example)
	f.Add("routes: [{name: a, path: /a, direct_response: {}}]")
	f.Add("a: &a [*a]")
	f.Add("{\"services\":[{\"name\":\"x\"}]}")
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := load(text)
		if err != nil {
			return
		}
		out, err := Marshal(doc.Configuration)
		if err != nil {
			t.Fatal(err)
		}
		again, err := load(string(out))
		if err != nil {
			t.Fatalf("what was written is not read: %v\n%s", err, out)
		}
		if !proto.Equal(doc.Configuration, again.Configuration) {
			t.Fatalf("another configuration came back:\n%s", cmp.Diff(doc.Configuration, again.Configuration, protocmp.Transform()))
		}
	})
}
