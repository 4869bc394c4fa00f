package validation

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/match"
)

// MaxOperations is the most operations that a document may have.
const MaxOperations = 5_000

// Document is a compiled document of OpenAPI 3.1. It is immutable and safe for concurrent use.
type Document struct {
	base  string
	table *match.Table
}

// path is a path of a document; its names are those of the parameters of its template, in order.
type path struct {
	names      []string
	operations map[string]*Operation
	allow      string // the methods, as a field has them
}

// Operation is what a request of a method and a path has to be.
type Operation struct {
	names      []string // of the path's parameters
	parameters []*parameter
	body       *body
}

// body is a requestBody.
type body struct {
	required bool
	exact    map[string]*content // by media type in lower case
	ranges   []mediaRange        // "text/*" and "*/*", the former first
}

type mediaRange struct {
	prefix string // "text/"; empty: any
	*content
}

type content struct{ schema *jsonschema.Schema } // nil: anything

// FieldError is one thing that is wrong with a document.
type FieldError struct {
	// Field is a JSON pointer into the document; empty: all of it.
	Field string
	// Message says what is wrong and what would be right.
	Message string
}

// Error implements error.
func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Message
	}
	return e.Field + ": " + e.Message
}

func wrong(field, format string, args ...any) error {
	return &FieldError{field, fmt.Sprintf(format, args...)}
}

// CompileDocument compiles a document, which is a value as encoding/json has it with numbers as json.Number. base goes
// before all its paths; empty: the path of its first server's URL.
func CompileDocument(doc map[string]any, base string) (*Document, error) {
	version := fmt.Sprint(doc["openapi"]) // which YAML has for a number where it is 3.1
	if version != "3.1" && !strings.HasPrefix(version, "3.1.") {
		return nil, wrong("/openapi", "is %q; documents of OpenAPI 3.1 are understood", cut(version, 40))
	}
	if d, ok := doc["jsonSchemaDialect"].(string); ok && d != "https://json-schema.org/draft/2020-12/schema" &&
		!strings.HasPrefix(d, "https://spec.openapis.org/oas/3.1/dialect/") {
		return nil, wrong("/jsonSchemaDialect", "is %q; schemas have to be of draft 2020-12", cut(d, 100))
	}
	c, err := newCompiler("https://openapi.invalid/", doc)
	if err != nil {
		return nil, wrong("", "%s", err)
	}
	b := builder{doc: doc, compiler: c, schemas: map[string]*jsonschema.Schema{}}
	d := &Document{base: strings.TrimSuffix(base, "/")}
	if base == "" {
		if d.base, err = serverPath(doc); err != nil {
			return nil, err
		}
	}
	paths, ok := doc["paths"].(map[string]any)
	if !ok {
		return nil, wrong("/paths", "is required, and an object")
	}
	var rules []*match.Rule
	for _, template := range slices.Sorted(maps.Keys(paths)) {
		if strings.HasPrefix(template, "x-") {
			continue
		}
		rule, err := b.path(d.base, template, paths[template])
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	d.table = match.Compile(rules)
	return d, nil
}

// serverPath is the path of the first server's URL (OpenAPI 3.1 section 4.8.5).
func serverPath(doc map[string]any) (string, error) {
	servers, _ := doc["servers"].([]any)
	if len(servers) == 0 {
		return "", nil
	}
	first, _ := servers[0].(map[string]any)
	text, _ := first["url"].(string)
	u, err := url.Parse(text)
	if err != nil || strings.ContainsAny(text, "{}") {
		return "", wrong("/servers/0/url", "is no URL whose path is known; base_path can say which it is")
	}
	return strings.TrimSuffix(u.EscapedPath(), "/"), nil
}

// Find returns the operation of a request. known tells that its path is one of the document; allow are then its
// methods.
// HEAD is what GET is, unless it is described itself. params are the values of the path's parameters, decoded.
func (d *Document) Find(method, requestPath string) (op *Operation, params []string, known bool, allow string) {
	var p match.Params
	rule := d.table.Match(&match.Request{Method: "GET", Path: requestPath}, &p)
	if rule == nil {
		return nil, nil, false, ""
	}
	found := rule.Value.(*path)
	if op = found.operations[method]; op == nil && method == "HEAD" {
		op = found.operations["GET"]
	}
	if op == nil {
		return nil, nil, true, found.allow
	}
	for i := range found.names {
		v, _ := p.Get(parameterName(i))
		if u, err := url.PathUnescape(v); err == nil {
			v = u
		}
		params = append(params, v)
	}
	return op, params, true, found.allow
}

func parameterName(i int) string { return fmt.Sprint("p", i) }

// builder compiles a document.
type builder struct {
	*compiler
	doc        map[string]any
	schemas    map[string]*jsonschema.Schema // by pointer
	operations int
}

var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}

func (b *builder) path(base, template string, item any) (*match.Rule, error) {
	at := "/paths/" + escapeToken.Replace(template)
	value, at, err := b.resolve(item, at)
	if err != nil {
		return nil, err
	}
	pattern, names, err := patternOf(template)
	if err != nil {
		return nil, wrong(at, "%s", err)
	}
	rule, errs := match.Parse(&configv1.Route{Id: template, Name: template, Path: base + pattern})
	if len(errs) > 0 {
		return nil, wrong(at, "is no path as routes have them: %s", errs[0].Message)
	}
	p := &path{names: names, operations: map[string]*Operation{}}
	var allow []string
	for _, m := range methods {
		if _, there := value[m]; !there {
			continue
		}
		if b.operations++; b.operations > MaxOperations {
			return nil, wrong("/paths", "has more than %d operations", MaxOperations)
		}
		o, err := b.operation(value, m, at, names)
		if err != nil {
			return nil, err
		}
		p.operations[strings.ToUpper(m)] = o
		allow = append(allow, strings.ToUpper(m))
	}
	p.allow = strings.Join(allow, ", ")
	return rule.WithValue(p), nil
}

// patternOf makes a template of OpenAPI a path of routes, whose parameters have other names.
func patternOf(template string) (pattern string, names []string, err error) {
	if !strings.HasPrefix(template, "/") {
		return "", nil, errors.New(`has to start with "/"`)
	}
	segments := strings.Split(template, "/")
	for i, s := range segments {
		if !strings.ContainsAny(s, "{}") {
			if strings.Contains(s, "*") {
				return "", nil, errors.New(`has a "*"`)
			}
			continue
		}
		name, ok := strings.CutPrefix(s, "{")
		if name, ok2 := strings.CutSuffix(name, "}"); ok && ok2 && name != "" && !strings.ContainsAny(name, "{}") {
			segments[i] = "{" + parameterName(len(names)) + "}"
			names = append(names, name)
			continue
		}
		return "", nil, fmt.Errorf("has the segment %q; a parameter has to be a whole segment such as {id}", cut(s, 60))
	}
	return strings.Join(segments, "/"), names, nil
}

// resolve follows the references of an object, which have to lead to others of the document, and returns it with its
// pointer.
func (b *builder) resolve(v any, at string) (object map[string]any, pointer string, err error) {
	for range 16 {
		o, ok := v.(map[string]any)
		if !ok {
			return nil, at, wrong(at, "has to be an object")
		}
		ref, refers := o["$ref"].(string)
		if !refers {
			return o, at, nil
		}
		fragment, local := strings.CutPrefix(ref, "#")
		if !local {
			return nil, at, wrong(at, "refers to %q, which is not in this document, and is not fetched", cut(ref, 100))
		}
		if u, err := url.PathUnescape(fragment); err == nil {
			fragment = u
		}
		if v, ok = lookup(b.doc, fragment); !ok {
			return nil, at, wrong(at, "refers to %q, which is not there", cut(ref, 100))
		}
		at = fragment
	}
	return nil, at, wrong(at, "refers on and on")
}

var unescapeToken = strings.NewReplacer("~1", "/", "~0", "~")

// lookup follows a JSON pointer through objects.
func lookup(v any, pointer string) (any, bool) {
	if pointer == "" {
		return v, true
	}
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		o, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = o[unescapeToken.Replace(token)]; !ok {
			return nil, false
		}
	}
	return v, true
}

// schemaAt compiles the schema at a pointer, once.
func (b *builder) schemaAt(pointer string) (*jsonschema.Schema, error) {
	if s := b.schemas[pointer]; s != nil {
		return s, nil
	}
	var escaped strings.Builder // as a fragment has it (RFC 3986 section 3.5)
	for token := range strings.SplitSeq(pointer[1:], "/") {
		escaped.WriteString("/" + url.PathEscape(token))
	}
	s, err := b.schema(escaped.String())
	if err != nil {
		return nil, wrong(pointer, "%s", err)
	}
	b.schemas[pointer] = s
	return s, nil
}

func (b *builder) operation(item map[string]any, method, at string, names []string) (*Operation, error) {
	o, ok := item[method].(map[string]any)
	if !ok {
		return nil, wrong(at+"/"+method, "has to be an object")
	}
	op := &Operation{names: names}
	byName := map[string]*parameter{}
	for _, level := range []struct {
		list any
		at   string
	}{{item["parameters"], at + "/parameters"}, {o["parameters"], at + "/" + method + "/parameters"}} {
		list, _ := level.list.([]any)
		for i, v := range list {
			p, err := b.parameter(v, fmt.Sprintf("%s/%d", level.at, i))
			if err != nil {
				return nil, err
			}
			if p != nil {
				byName[p.in+"\x00"+p.name] = p // an operation's own goes before the path's
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(byName)) {
		p := byName[key]
		if p.in == "path" {
			if p.index = slices.Index(names, p.name); p.index < 0 {
				return nil, wrong(at+"/"+method, "has the parameter %q, which its path does not have", p.name)
			}
		}
		op.parameters = append(op.parameters, p)
	}
	if v, there := o["requestBody"]; there {
		var err error
		if op.body, err = b.body(v, at+"/"+method+"/requestBody"); err != nil {
			return nil, err
		}
	}
	return op, nil
}

func (b *builder) body(v any, at string) (*body, error) {
	o, at, err := b.resolve(v, at)
	if err != nil {
		return nil, err
	}
	types, ok := o["content"].(map[string]any)
	if !ok || len(types) == 0 {
		return nil, wrong(at+"/content", "is required, and an object of media types")
	}
	result := &body{exact: map[string]*content{}}
	result.required, _ = o["required"].(bool)
	for _, name := range slices.Sorted(maps.Keys(types)) {
		c, err := b.content(name, types[name], at+"/content/"+escapeToken.Replace(name))
		if err != nil {
			return nil, err
		}
		media, _, _ := strings.Cut(strings.ToLower(name), ";")
		media = strings.TrimSpace(media)
		switch prefix, isRange := strings.CutSuffix(media, "*"); {
		case media == "*/*":
			result.ranges = append(result.ranges, mediaRange{"", c})
		case isRange:
			result.ranges = append([]mediaRange{{prefix, c}}, result.ranges...)
		default:
			result.exact[media] = c
		}
	}
	return result, nil
}

func (b *builder) content(media string, v any, at string) (*content, error) {
	o, ok := v.(map[string]any)
	if !ok {
		return nil, wrong(at, "has to be an object")
	}
	if _, there := o["schema"]; !there || !LooksAt(media) && media != "*/*" {
		return &content{}, nil
	}
	s, err := b.schemaAt(at + "/schema")
	return &content{s}, err
}

// LooksAt reports whether the bodies of a media type are compared with a schema.
func LooksAt(media string) bool {
	media, _, _ = strings.Cut(strings.ToLower(media), ";")
	media = strings.TrimSpace(media)
	return media == "application/json" || strings.HasSuffix(media, "+json") || media == form
}

const form = "application/x-www-form-urlencoded"
