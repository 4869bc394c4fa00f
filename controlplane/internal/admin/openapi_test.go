package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"

	api "gateway.internal/proto"
	"gateway.internal/shared/fault"
)

// contract is the served description, read for what it says of replies.
type contract struct {
	doc      map[string]any
	compiler *jsonschema.Compiler

	mu      sync.Mutex
	schemas map[string]*jsonschema.Schema
}

var served = sync.OnceValues(func() (*contract, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(api.OpenAPI))
	if err != nil {
		return nil, err
	}
	closeObjects(doc)
	c := &contract{doc: doc.(map[string]any), compiler: jsonschema.NewCompiler(),
		schemas: map[string]*jsonschema.Schema{}}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	return c, c.compiler.AddResource("api.json", doc)
})

// closeObjects lets objects have the properties that are described and no others: readers of replies bear with new
// ones, but a description that lacks some is not true.
func closeObjects(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			closeObjects(e)
		}
	case map[string]any:
		if _, is := v["properties"].(map[string]any); is && v["additionalProperties"] == nil && v["type"] == "object" {
			v["additionalProperties"] = false
		}
		for _, e := range v {
			closeObjects(e)
		}
	}
}

func (c *contract) at(steps ...string) any {
	var v any = c.doc
	for _, s := range steps {
		m, _ := v.(map[string]any)
		v = m[s]
	}
	return v
}

// resolve follows a reference.
func (c *contract) resolve(v any) map[string]any {
	m, _ := v.(map[string]any)
	if to, ok := m["$ref"].(string); ok {
		m, _ = c.at(strings.Split(strings.TrimPrefix(to, "#/"), "/")...).(map[string]any)
	}
	return m
}

// operation returns the description of a call; nil: there is none.
func (c *contract) operation(method, path string) (template string, op map[string]any) {
	have := strings.Split(path, "/")
	paths, _ := c.at("paths").(map[string]any)
	for template, item := range paths {
		fits := slices.EqualFunc(strings.Split(template, "/"), have, func(want, have string) bool {
			return want == have || strings.HasPrefix(want, "{") && have != ""
		})
		op, ok := item.(map[string]any)[strings.ToLower(method)].(map[string]any)
		if fits && ok {
			return template, op
		}
	}
	return "", nil
}

// schema compiles a reference such as "#/components/schemas/Route".
func (c *contract) schema(reference string) (*jsonschema.Schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.schemas[reference]; s != nil {
		return s, nil
	}
	s, err := c.compiler.Compile("api.json" + reference)
	c.schemas[reference] = s
	return s, err
}

// check reports, as an error, how a reply differs from what is described. Replies to calls that there are not have
// the form of errors.
func (c *contract) check(method, path string, r *reply) error {
	schema := "#/components/schemas/ErrorResponse"
	path, _, _ = strings.Cut(path, "?")
	if template, op := c.operation(method, path); op != nil {
		at := fmt.Sprintf("%s %s: %d", method, template, r.status)
		responses, _ := op["responses"].(map[string]any)
		described := c.resolve(responses[strconv.Itoa(r.status)])
		if described == nil {
			return fmt.Errorf("%s is not described", at)
		}
		content, _ := described["content"].(map[string]any)
		media, _ := content[r.header.Get("Content-Type")].(map[string]any)
		one, _ := media["schema"].(map[string]any)
		if one == nil {
			return fmt.Errorf("%s with Content-Type %q is not described", at, r.header.Get("Content-Type"))
		}
		schema, _ = one["$ref"].(string)
		headers, _ := described["headers"].(map[string]any)
		for _, name := range []string{"ETag", "Location", "Allow", "Retry-After", "WWW-Authenticate", "X-Request-Id"} {
			_, said := headers[name]
			if is := r.header.Get(name) != ""; is != said && (name != "Retry-After" || is) {
				return fmt.Errorf("%s has the header %s: %t, and described is %t", at, name, is, said)
			}
		}
		if codes, ok := described["x-error-codes"].([]any); ok != (r.status >= 400) || ok &&
			!slices.Contains(codes, any(r.Error.Code)) {
			return fmt.Errorf("%s has the code %q, and described are %v", at, r.Error.Code, codes)
		}
	} else if r.status < 400 {
		return fmt.Errorf("%s %s is not described", method, path)
	}
	s, err := c.schema(schema)
	if err != nil {
		return err
	}
	body, err := jsonschema.UnmarshalJSON(strings.NewReader(r.raw))
	if err != nil {
		return err
	}
	return s.Validate(body)
}

// TestOpenAPI reads what is served as outsiders do.
func TestOpenAPI(t *testing.T) {
	a := newAPI(t)
	for path, version := range map[string]string{"/api/v1/openapi.json": "3.1.1", "/api/v1/openapi-3.0.json": "3.0.4"} {
		res, err := http.Get(a.url + path) // without a token
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		doc, err := openapi3.NewLoader().LoadFromIoReader(res.Body)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if err := doc.Validate(t.Context()); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if doc.OpenAPI != version || doc.Paths.Value("/api/v1/config/routes/{id}") == nil {
			t.Errorf("%s is %s and has %d paths", path, doc.OpenAPI, doc.Paths.Len())
		}
	}
}

// TestReferencesStandAlone: tools do different things with what stands beside a reference.
func TestReferencesStandAlone(t *testing.T) {
	for name, text := range map[string][]byte{"3.1": api.OpenAPI, "3.0": api.OpenAPI30} {
		var doc any
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		var walk func(path string, v any)
		walk = func(path string, v any) {
			switch v := v.(type) {
			case []any:
				for i, e := range v {
					walk(fmt.Sprint(path, "/", i), e)
				}
			case map[string]any:
				if _, is := v["$ref"].(string); is && len(v) > 1 {
					t.Errorf("%s: %s: the reference has siblings: %v", name, path, v)
				}
				for k, e := range v {
					walk(path+"/"+k, e)
				}
			}
		}
		walk("", doc)
	}
}

// TestDescribedErrors holds the described codes and statuses against those that there are.
func TestDescribedErrors(t *testing.T) {
	c, err := served()
	if err != nil {
		t.Fatal(err)
	}
	responses, _ := c.at("components", "responses").(map[string]any)
	for status, r := range responses {
		for _, code := range c.resolve(r)["x-error-codes"].([]any) {
			if got := fault.Code(code.(string)); !slices.Contains(fault.Codes(),
				got) || strconv.Itoa(got.HTTP()) != status {
				t.Errorf("%s is described as %s and is %d", code, status, got.HTTP())
			}
		}
	}
}

// TestContractNotices has replies that differ from what is described in one thing each.
func TestContractNotices(t *testing.T) {
	c, err := served()
	if err != nil {
		t.Fatal(err)
	}
	a := newAPI(t)
	good := a.must("POST", "/api/v1/config/services", users)
	for name, change := range map[string]func(r *reply){
		"another status": func(r *reply) { r.status = 202 },
		"another form":   func(r *reply) { r.raw = strings.Replace(r.raw, `"data"`, `"service"`, 1) },
		"a field more": func(r *reply) {
			r.raw = strings.Replace(r.raw, `"data":{`,
				`"data":{"colour":"red",`, 1)
		},
		"another type": func(r *reply) { r.raw = strings.Replace(r.raw, `9000`, `"9000"`, 1) },
		"a time that is none": func(r *reply) {
			r.raw = strings.Replace(r.raw, `"timestamp":"2`,
				`"timestamp":"x`, 1)
		},
		"no Location":                func(r *reply) { r.header.Del("Location") },
		"a header more":              func(r *reply) { r.header.Set("Allow", "GET") },
		"another content type":       func(r *reply) { r.header.Set("Content-Type", "text/plain") },
		"a failure with another one": func(r *reply) { r.status, r.Error.Code = 409, "INVALID_ARGUMENT" },
	} {
		r := &reply{status: good.status, header: good.header.Clone(), raw: good.raw}
		if err := c.check("POST", "/api/v1/config/services", r); err != nil {
			t.Fatalf("before: %v", err)
		}
		change(r)
		if err := c.check("POST", "/api/v1/config/services", r); err == nil {
			t.Errorf("%s is not noticed", name)
		}
	}
}

// TestExamples sends the examples that the description has, each after those it refers to.
func TestExamples(t *testing.T) {
	c, err := served()
	if err != nil {
		t.Fatal(err)
	}
	a := newAPI(t)
	for _, below := range []string{"services", "middleware", "pipelines", "policies", "consumers",
		"certificates", "routes", "services/{id}/endpoints", "validate", "diff", "apply"} {
		path := "/api/v1/config/" + below
		example, err := json.Marshal(c.at("paths", path, "post", "requestBody", "content", "application/json",
			"example"))
		if err != nil || string(example) == "null" {
			t.Fatalf("%s has no example: %v", path, err)
		}
		a.must("POST", strings.Replace(path, "{id}", "users", 1), string(example))
	}
	for _, resource := range []string{"services/users", "routes/users-api", "certificates/www", "routes/orders-api"} {
		a.must("GET", "/api/v1/config/"+resource, "")
	}
}
