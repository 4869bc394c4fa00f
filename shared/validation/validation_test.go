package validation

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// parsed reads YAML as schemas and documents are read.
func parsed(t testing.TB, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDecode(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, c := range []struct{ text, wrong string }{
		{`{"a": [1, "b", null, true, {"c": -1.5e3}]}`, ""},
		{` 1 `, ""},
		{deep(4), ""},
		{deep(5), "nested too deep"},
		{`[1,2,3,4,5,6,7,8,9]`, ""},
		{`[1,2,3,4,5,6,7,8,9,10]`, "too many values"},
		{`{"a": 1, "a": 2}`, `the member "a" twice`},
		{`{"a": 1, "\u0061": 2}`, `the member "a" twice`},
		{`{"a": 1} {}`, "behind its end"},
		{`{"a": 1`, "ends too early"},
		{``, "ends too early"},
		{`{"a": 1,}`, "is no JSON"},
		{`{a: 1}`, "is no JSON"},
		{`NaN`, "is no JSON"},
		{"\xef\xbb\xbf1", "is no JSON"},
		{"\"\xff\"", "is not UTF-8"},
		{`1e309`, "exponent"},
		{`1e-999999999999`, "exponent"},
		{`1e1000000000`, "exponent"},
		{strings.Repeat("9", 65), "more than 64 characters"},
	} {
		_, err := Decode([]byte(c.text), Bounds{4, 10})
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%.40s: %v, want %q", c.text, err, c.wrong)
		}
	}
}

// TestSchemasAreBounded refuses schemas that could cost any amount.
func TestSchemasAreBounded(t *testing.T) {
	for _, c := range []struct{ name, schema, wrong string }{
		{"an object", `{type: object, properties: {a: {type: string}}, required: [a]}`, ""},
		{"a truth value", `true`, ""},
		{"a tree", `{properties: {children: {type: array, items: {$ref: "#"}}}}`, ""},
		{"two kinds of trees", `{properties: {left: {$ref: "#"}, right: {$ref: "#"}}}`, ""},
		{"draft 7", `{$schema: "http://json-schema.org/draft-07/schema#", definitions: {a: {}}, $ref: "#/definitions/a"}`,
			""},
		{"a text", `abc`, "neither an object"},
		{"a loop", `{$ref: "#"}`, "without an end"},
		{"a longer loop", `{$defs: {a: {allOf: [{$ref: "#/$defs/b"}]}, b: {not: {$ref: "#/$defs/a"}}}, $ref: "#/$defs/a"}`,
			"without an end"},
		{"a reference that doubles", `{properties: {a: {anyOf: [{$ref: "#"}, {$ref: "#"}]}}}`, "more than 64 times"},
		{"a fan", `{allOf: [` + strings.Repeat(`{$ref: "#/$defs/a"},`, 65) + `], $defs: {a: {type: string}}}`,
			"more than 64 times"},
		{"something remote", `{$ref: "https://evil.example/schema.json"}`, "is not fetched"},
		{"a file", `{$ref: "file:///etc/passwd"}`, "is not fetched"},
		{"something relative", `{$ref: "other.json"}`, "is not fetched"},
		{"another dialect", `{$schema: "https://evil.example/dialect"}`, "is not fetched"},
		{"what is not there", `{$ref: "#/$defs/none"}`, "#/$defs/none"},
		{"no schema", `{type: strin}`, "is no schema"},
		{"a regular expression", `{pattern: "("}`, "is no schema"},
		{"one that is not RE2", `{pattern: "(?=a)"}`, "is no schema"},
		{"one that repeats", `{pattern: "((a{100}){100}){100}"}`, "is no schema"},
		{"one that is long", `{pattern: "` + strings.Repeat("a", 1001) + `"}`, "is no schema"},
	} {
		_, err := CompileSchema(parsed(t, c.schema))
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v, want %q", c.name, err, c.wrong)
		}
	}
}

func TestSchema(t *testing.T) {
	s, err := CompileSchema(parsed(t, `
type: object
required: [name]
additionalProperties: false
properties:
  name: {type: string, minLength: 2, pattern: "^[a-z]+$"}
  age: {type: integer, minimum: 0, multipleOf: 1}
  mail: {type: string, format: email}
  tags: {type: array, uniqueItems: true}
  a/b: {const: 1}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		body string
		at   string // of violations: pointers
	}{
		{`{"name": "ann", "age": 7, "mail": "ann@example.com", "tags": [1, "1", [1], {"a": 1}], "a/b": 1.0}`, ""},
		{`{}`, " "},
		{`[]`, " "},
		{`{"name": "A"}`, "/name /name "},
		{`{"name": "ann", "age": -1.5}`, "/age "},
		{`{"name": "ann", "age": -1}`, "/age "},
		{`{"name": "ann", "other": 1}`, " "},
		{`{"name": "ann", "mail": "x"}`, "/mail "},
		{`{"name": "ann", "tags": [1, 2, 1.0]}`, "/tags "},
		{`{"name": "ann", "tags": [{"a": 1, "b": [2]}, {"b": [2], "a": 10e-1}]}`, "/tags "},
		{`{"name": "ann", "a/b": 2}`, "/a~1b "},
	} {
		v, err := Decode([]byte(c.body), Bounds{10, 100})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, w := range s.Check(v) {
			got += w.Pointer + " "
			if w.In != "body" || w.Detail == "" {
				t.Errorf("%s: %+v", c.body, w)
			}
		}
		if got != c.at {
			t.Errorf("%s: wrong at %q, want %q", c.body, got, c.at)
		}
	}
}

// TestViolationsAreBounded tells of a body with many errors no more than there is room for.
func TestViolationsAreBounded(t *testing.T) {
	s, err := CompileSchema(parsed(t, `{items: {type: object, properties: {`+strings.Repeat("x",
		500)+`: {type: string}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat(`{"`+strings.Repeat("x", 500)+`": 1},`, 100)
	v, err := Decode([]byte("["+strings.TrimSuffix(text, ",")+"]"), Bounds{10, 1000})
	if err != nil {
		t.Fatal(err)
	}
	list := s.Check(v)
	if len(list) != MaxViolations {
		t.Errorf("%d are told", len(list))
	}
	for _, w := range list {
		if len(w.Detail) > maxDetail || len(w.Pointer) > maxPointer {
			t.Errorf("%+v", w)
		}
	}
}

// TestUniqueItems takes a time in proportion to the items, also where texts are made to look alike.
func TestUniqueItems(t *testing.T) {
	s, err := CompileSchema(parsed(t, `{uniqueItems: true}`))
	if err != nil {
		t.Fatal(err)
	}
	var items []any
	for i := range 4096 { // all ways of cutting one text: the library's hash is the same for all
		var item []any
		text := "a"
		for bit := range 12 {
			if i>>bit&1 == 1 {
				item, text = append(item, text), "a"
			} else {
				text += "\x04a"
			}
		}
		items = append(items, append(item, text))
	}
	if list := s.Check(items); len(list) > 0 {
		t.Errorf("%+v", list)
	}
	if list := s.Check(append(items, items[7])); len(list) != 1 {
		t.Errorf("%+v", list)
	}
}

const shop = `
openapi: 3.1.0
info: {title: shop, version: "1"}
servers: [{url: "https://api.example.com/v1/"}]
paths:
  /orders:
    parameters:
      - {name: X-Tenant, in: header, required: true, schema: {type: string, maxLength: 4}}
    get:
      parameters:
        - {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 100}}
        - {name: tag, in: query, schema: {type: array, maxItems: 2, items: {enum: [a, b]}}}
        - {name: ids, in: query, explode: false, schema: {type: array, items: {type: integer}}}
        - {name: filter, in: query, style: deepObject, schema: {type: object, properties: {open: {type: boolean}},
additionalProperties: false}}
        - {name: where, in: query, content: {application/json: {schema: {type: object, required: [a]}}}}
        - {name: session, in: cookie, schema: {type: string, minLength: 3}}
    post:
      requestBody:
        required: true
        content:
          application/json: {schema: {$ref: "#/components/schemas/Order"}}
          application/x-www-form-urlencoded:
            schema: {type: object, properties: {count: {type: integer}, tag: {type: array, items: {type: string}}},
required: [count]}
          text/*: {}
  /orders/{order-id}:
    parameters: [{$ref: "#/components/parameters/Id"}]
    get: {}
    delete: {}
  /orders/latest:
    get: {}
components:
  parameters:
    Id: {name: order-id, in: path, required: true, schema: {type: integer}}
  schemas:
    Order:
      type: object
      required: [count]
      properties: {count: {type: integer}, note: {type: [string, "null"]}, parent: {$ref: "#/components/schemas/Order"}}
`

func TestDocument(t *testing.T) {
	d, err := CompileDocument(parsed(t, shop).(map[string]any), "")
	if err != nil {
		t.Fatal(err)
	}
	const tenant = "X-Tenant: acme"
	for _, c := range []struct {
		request string // method, path with a query, fields
		media   string
		body    string
		want    string // what is wrong: "in name pointer;", or else what happens
	}{
		{"GET /v1/orders " + tenant, "", "", ""},
		{"GET /v1/orders", "", "", "header X-Tenant ;"},
		{"GET /v1/orders X-Tenant: acmes", "", "", "header X-Tenant ;"},
		{"GET /v1/orders?limit=5&tag=a&tag=b&ids=1,2 " + tenant, "", "", ""},
		{"GET /v1/orders?limit=0 " + tenant, "", "", "query limit ;"},
		{"GET /v1/orders?limit=x " + tenant, "", "", "query limit ;"},
		{"GET /v1/orders?limit=1&limit=101 " + tenant, "", "", "query limit ;"},
		{"GET /v1/orders?limit=1e400 " + tenant, "", "", "query limit ;"},
		{"GET /v1/orders?l%69mit=0 " + tenant, "", "", "query limit ;"},
		{"GET /v1/orders?tag=a&tag=c " + tenant, "", "", "query tag /1;"},
		{"GET /v1/orders?tag=a&tag=b&tag=a " + tenant, "", "", "query tag ;"},
		{"GET /v1/orders?ids=1,x " + tenant, "", "", "query ids /1;"},
		{"GET /v1/orders?filter[open]=true " + tenant, "", "", ""},
		{"GET /v1/orders?filter[open]=7 " + tenant, "", "", "query filter /open;"},
		{"GET /v1/orders?filter[x]=7 " + tenant, "", "", "query filter ;"},
		{`GET /v1/orders?where={"a":1} ` + tenant, "", "", ""},
		{`GET /v1/orders?where={"b":1} ` + tenant, "", "", "query where ;"},
		{`GET /v1/orders?where={ ` + tenant, "", "", "query where ;"},
		{"GET /v1/orders?x=%zz " + tenant, "", "", "query  ;"},
		{"GET /v1/orders " + tenant + "|Cookie: a=1; session=ab", "", "", "cookie session ;"},
		{"GET /v1/orders " + tenant + "|Cookie: session=abc", "", "", ""},
		{"HEAD /v1/orders?limit=0 " + tenant, "", "", "query limit ;"},
		{"PUT /v1/orders " + tenant, "", "", "405 GET, POST"},
		{"GET /orders " + tenant, "", "", "404"},
		{"GET /v1/nothing", "", "", "404"},
		{"GET /v1/orders/17", "", "", ""},
		{"GET /v1/orders/x", "", "", "path order-id ;"},
		{"GET /v1/orders/latest", "", "", ""},
		{"GET /v1/orders/%31%37", "", "", ""},
		{"POST /v1/orders " + tenant, "application/json", `{"count": 1, "note": null, "parent": {"count": 2}}`, ""},
		{"POST /v1/orders " + tenant, "application/json", `{"count": "1", "parent": {}}`, "body  /count;body  /parent;"},
		{"POST /v1/orders " + tenant, "application/json", `{`, "body  ;"},
		{"POST /v1/orders " + tenant, "application/x-www-form-urlencoded", `count=1&tag=a&tag=b`, ""},
		{"POST /v1/orders " + tenant, "application/x-www-form-urlencoded", `count=x`, "body  /count;"},
		{"POST /v1/orders " + tenant, "application/x-www-form-urlencoded", `count=1&count=2`, "body  /count;"},
		{"POST /v1/orders " + tenant, "text/plain", `anything`, "unseen"},
		{"POST /v1/orders " + tenant, "application/xml", `<a/>`, "415"},
		{"DELETE /v1/orders/1", "application/json", `{}`, "absent"},
	} {
		if got := outcome(d, c.request, c.media, c.body); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.request, c.body, got, c.want)
		}
	}
}

// outcome is what a document says of a request.
func outcome(d *Document, request, media, body string) string {
	method, rest, _ := strings.Cut(request, " ")
	target, lines, _ := strings.Cut(rest, " ")
	path, query, _ := strings.Cut(target, "?")
	header := http.Header{}
	for line := range strings.SplitSeq(lines, "|") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			header.Add(name, value)
		}
	}
	op, params, known, allow := d.Find(method, path)
	switch {
	case !known:
		return "404"
	case op == nil:
		return "405 " + allow
	}
	list := op.Check(&Request{Query: query, Header: header.Values, Media: media}, params)
	if body != "" {
		switch op.Content(media) {
		case Absent:
			return "absent"
		case Unseen:
			return "unseen"
		case Unsupported:
			return "415"
		}
		list = append(list, op.CheckBody(media, []byte(body), Bounds{10, 100})...)
	}
	text := ""
	for _, w := range list {
		text += fmt.Sprintf("%s %s %s;", w.In, w.Name, w.Pointer)
	}
	return text
}

func TestDocumentsThatAreNone(t *testing.T) {
	of := func(paths string) string { return "openapi: 3.1.0\npaths: {" + paths + "}" }
	for _, c := range []struct{ name, text, field, wrong string }{
		{"another version", "openapi: 3.0.3\npaths: {}", "/openapi", "3.1"},
		{"no version", "paths: {}", "/openapi", "3.1"},
		{"another dialect", "openapi: 3.1.0\njsonSchemaDialect: https://evil.example/\npaths: {}", "/jsonSchemaDialect",
			"2020-12"},
		{"no paths", "openapi: 3.1.0", "/paths", "required"},
		{"a server with " +
			"variables", "openapi: 3.1.0\nservers: [{url: 'https://{a}/b'}]\npaths: {}", "/servers/0/url", "base_path"},
		{"a part of a segment", of(`"/a/{b}.json": {get: {}}`), "/paths/~1a~1{b}.json", "whole segment"},
		{"a parameter that the path does not " +
			"have", of(`/a: {get: {parameters: [{name: b, in: path, schema: {}}]}}`), "/paths/~1a/get", "does not have"},
		{"a place that there is " +
			"not", of(`/a: {get: {parameters: [{name: b, in: body}]}}`), "/paths/~1a/get/parameters/0/in", "path"},
		{"a style", of(`/a: {get: {parameters: [{name: b, in: query, style: matrix, schema: {}}]}}`),
			"/paths/~1a/get/parameters/0/style", "not understood"},
		{"a remote parameter", of(`/a: {get: {parameters: [{$ref: "https://evil.example/#/b"}]}}`),
			"/paths/~1a/get/parameters/0", "not fetched"},
		{"a parameter that is not " +
			"there", of(`/a: {get: {parameters: [{$ref: "#/components/b"}]}}`), "/paths/~1a/get/parameters/0", "not there"},
		{"a reference to itself", of(`/a: {$ref: "#/paths/~1a"}`), "/paths/~1a", "on and on"},
		{"a remote schema", of(`/a: {post: {requestBody: {content: {application/json: {schema: {$ref: "https://a/"}}}}}}`),
			"/paths/~1a/post/requestBody/content/application~1json/schema", "not fetched"},
		{"a schema that is " +
			"none", of(`/a: {post: {requestBody: {content: {application/json: {schema: {type: 7}}}}}}`),
			"/paths/~1a/post/requestBody/content/application~1json/schema", ""},
		{"no content", of(`/a: {post: {requestBody: {}}}`), "/paths/~1a/post/requestBody/content", "required"},
	} {
		_, err := CompileDocument(parsed(t, c.text).(map[string]any), "")
		wrong, ok := err.(*FieldError)
		if !ok || wrong.Field != c.field || !strings.Contains(wrong.Message, c.wrong) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// FuzzDecode reads any text: what is taken, encoding/json takes too, and it is within bounds.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"a": [1, -2.5e3, null, true, "b"]}`, `[[[[]]]]`, `{"a":1,"a":2}`, `1e99999`, `"\ud800"`,
		` 1 2`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := Decode(text, Bounds{8, 50})
		if err == nil && !json.Valid(text) {
			t.Errorf("%q is taken as %v", text, v)
		}
	})
}

// FuzzDocument checks any request against a document, and compiles any document.
func FuzzDocument(f *testing.F) {
	f.Add(`{"openapi":"3.1.0","paths":{"/a/{b}":{"get":{"parameters":[{"name":"b","in":"path","schema":{}}]}}}}`,
		"GET", "/a/1", "c=1")
	f.Add(`{"openapi":"3.1.0","paths":{"/a":{"$ref":"#/paths/~1a"}}}`, "POST", "/a", "c[d]=1")
	f.Fuzz(func(t *testing.T, text, method, path, query string) {
		v, err := Decode([]byte(text), Bounds{20, 200})
		doc, ok := v.(map[string]any)
		if err != nil || !ok {
			return
		}
		d, err := CompileDocument(doc, "")
		if err != nil {
			return
		}
		if op, params, _, _ := d.Find(method, path); op != nil {
			none := func(string) []string { return nil }
			op.Check(&Request{Query: query, Header: none}, params)
			for _, media := range []string{"application/json", form} {
				if op.Content(media) == Seen {
					op.CheckBody(media, []byte(query), Bounds{8, 50})
				}
			}
		}
	})
}

func BenchmarkSchema(b *testing.B) {
	d, err := CompileDocument(parsed(b, shop).(map[string]any), "")
	if err != nil {
		b.Fatal(err)
	}
	header := http.Header{"X-Tenant": {"acme"}}
	b.ReportAllocs()
	for b.Loop() {
		op, params, _, _ := d.Find("POST", "/v1/orders")
		list := op.Check(&Request{Header: header.Values, Media: "application/json"}, params)
		if list = append(list, op.CheckBody("application/json", []byte(`{"count": 7, "note": "now"}`), Bounds{64,
			1000})...); len(list) > 0 {
			b.Fatal(list)
		}
	}
}
