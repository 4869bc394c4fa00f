package validation

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// parameter is a parameter of an operation.
type parameter struct {
	in, name string
	required bool
	index    int    // of the path's
	array    bool   // its schema is of one
	object   bool   // its schema is of one: deepObject
	explode  bool   // each element is a parameter of its own
	split    string // what stands between elements
	json     bool   // its value is a JSON text
	schema   *jsonschema.Schema
}

// parameter compiles one; nil: it is one that OpenAPI ignores.
func (b *builder) parameter(v any, at string) (*parameter, error) {
	o, at, err := b.resolve(v, at)
	if err != nil {
		return nil, err
	}
	p := &parameter{split: ","}
	p.in, _ = o["in"].(string)
	p.name, _ = o["name"].(string)
	p.required, _ = o["required"].(bool)
	style, _ := o["style"].(string)
	explode, said := o["explode"].(bool)
	switch {
	case p.name == "":
		return nil, wrong(at+"/name", "is required")
	case !slices.Contains([]string{"path", "query", "header", "cookie"}, p.in):
		return nil, wrong(at+"/in", `has to be "path", "query", "header" or "cookie"`)
	case p.in == "header" && slices.Contains([]string{"accept", "content-type", "authorization"}, strings.ToLower(p.name)):
		return nil, nil //nolint:nilnil // OpenAPI 3.1 section 4.8.12
	}
	p.required = p.required || p.in == "path"
	if types, there := o["content"].(map[string]any); there {
		for media := range types {
			if len(types) > 1 || !strings.HasSuffix(strings.ToLower(media), "json") {
				return nil, wrong(at+"/content", "has to be of one media type, and that JSON")
			}
			p.json = true
			p.schema, err = b.schemaAt(at + "/content/" + escapeToken.Replace(media) + "/schema")
		}
		return p, err
	}
	if _, there := o["schema"]; !there {
		return p, nil
	}
	if p.schema, err = b.schemaAt(at + "/schema"); err != nil {
		return nil, err
	}
	types := typesOf(p.schema, 0)
	p.array, p.object = slices.Contains(types, "array"), slices.Contains(types, "object")
	byForm := p.in == "query" || p.in == "cookie"
	p.explode = byForm && (explode || !said)
	switch {
	case style == "" || style == "form" && byForm || style == "simple" && !byForm:
		if p.object {
			return nil, wrong(at, `is an object, which style "deepObject" can say in a query`)
		}
	case style == "spaceDelimited" && p.in == "query":
		p.split, p.explode = " ", explode
	case style == "pipeDelimited" && p.in == "query":
		p.split, p.explode = "|", explode
	case style == "deepObject" && p.in == "query" && p.object:
	default:
		return nil, wrong(at+"/style", `is %q, which is not understood for a parameter of this kind`, cut(style, 40))
	}
	return p, nil
}

// typesOf returns the types that a schema allows, as far as it says so itself or by what it refers to.
func typesOf(s *jsonschema.Schema, depth int) []string {
	switch {
	case s == nil || depth > 8:
		return nil
	case s.Types != nil && !s.Types.IsEmpty():
		return s.Types.ToStrings()
	}
	if t := typesOf(s.Ref, depth+1); t != nil {
		return t
	}
	for _, list := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf} {
		for _, o := range list {
			if t := typesOf(o, depth+1); t != nil {
				return t
			}
		}
	}
	return nil
}

// scalar makes of a text what a schema wants: a number, a truth value or null where the text is one and the schema
// allows it, and the text otherwise.
func scalar(text string, s *jsonschema.Schema) any {
	types := typesOf(s, 0)
	has := func(t string) bool { return slices.Contains(types, t) }
	switch {
	case has("boolean") && (text == "true" || text == "false"):
		return text == "true"
	case has("null") && (text == "null" || text == "" && !has("string")):
		return nil
	case (has("integer") || has("number")) && isNumber(text):
		return json.Number(text)
	}
	return text
}

func isNumber(text string) bool {
	if text == "" || number(text) != nil || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return false
	}
	return json.Valid([]byte(text))
}

// items returns the schema of an array's elements, as far as it says so itself or by what it refers to; nil: any.
func items(s *jsonschema.Schema) *jsonschema.Schema {
	for range 8 {
		if s == nil || s.Items2020 != nil {
			break
		}
		s = s.Ref
	}
	if s == nil {
		return nil
	}
	return s.Items2020
}

// member returns the schema of an object's member, as far as it says so itself or by what it refers to; nil: any.
func member(s *jsonschema.Schema, name string) *jsonschema.Schema {
	for range 8 {
		if s == nil {
			return nil
		}
		if m := s.Properties[name]; m != nil {
			return m
		}
		s = s.Ref
	}
	return nil
}

// value makes of the texts of a parameter what its schema is about.
func (p *parameter) value(texts []string) (any, error) {
	switch {
	case p.json:
		return Decode([]byte(texts[0]), Bounds{MaxDepth, 1000})
	case !p.array:
		return scalar(texts[0], p.schema), nil
	}
	if !p.explode {
		texts = strings.Split(texts[0], p.split)
	}
	list := make([]any, len(texts))
	for i, t := range texts {
		list[i] = scalar(t, items(p.schema))
	}
	return list, nil
}

// deepObject collects what a query says as name[member]=value.
func (p *parameter) deepObject(query []pair) (object map[string]any, found bool) {
	object = map[string]any{}
	for _, q := range query {
		rest, ok := strings.CutPrefix(q.name, p.name+"[")
		if name, ok2 := strings.CutSuffix(rest, "]"); ok && ok2 {
			object[name] = scalar(q.value, member(p.schema, name))
			found = true
		}
	}
	return object, found
}

// pair is a parameter of a query, or of a form.
type pair struct{ name, value string }

// maxPairs is the most parameters of a query or of a form that are looked at.
const maxPairs = 1_000

// pairs decodes a query; ok is false where it has too many parameters, or escapes that are none.
func pairs(query string) (list []pair, ok bool) {
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		n, err := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if err != nil || err2 != nil || len(list) == maxPairs {
			return list, false
		}
		list = append(list, pair{n, v})
	}
	return list, true
}
