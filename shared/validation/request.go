package validation

import (
	"slices"
	"strings"
)

// Request is what a document looks at of a request.
type Request struct {
	// Query is the query without "?".
	Query string
	// Header returns all values of a field, by its name without case.
	Header func(name string) []string
	// Media is the media type of the body, in lower case and without parameters; empty: none is said.
	Media string
}

// Content tells what becomes of a request's body.
type Content uint8

const (
	// Absent is a body that has to be empty: none is described.
	Absent Content = iota
	// Unseen is a body of which nothing is known but its media type.
	Unseen
	// Seen is a body that CheckBody looks at.
	Seen
	// Unsupported is a body of a media type that is not described.
	Unsupported
)

// Content returns what becomes of a body of a media type.
func (o *Operation) Content(media string) Content {
	switch c := o.content(media); {
	case o.body == nil:
		return Absent
	case c == nil:
		return Unsupported
	case c.schema == nil || !LooksAt(media):
		return Unseen
	}
	return Seen
}

func (o *Operation) content(media string) *content {
	if o.body == nil {
		return nil
	}
	if c := o.body.exact[media]; c != nil {
		return c
	}
	for _, r := range o.body.ranges {
		if strings.HasPrefix(media, r.prefix) {
			return r.content
		}
	}
	return nil
}

// NeedsBody reports whether a request without a body is wrong.
func (o *Operation) NeedsBody() bool { return o.body != nil && o.body.required }

// Check returns what is wrong with a request but for its body, at most MaxViolations. params are as Find returns them.
func (o *Operation) Check(r *Request, params []string) []Violation {
	var list []Violation
	query, ok := pairs(r.Query)
	if !ok {
		return append(list, Violation{In: "query", Detail: "the query can't be decoded, or has too many parameters"})
	}
	for _, p := range o.parameters {
		if len(list) >= MaxViolations {
			break
		}
		list = p.check(list, r, params, query)
	}
	return list
}

func (p *parameter) check(list []Violation, r *Request, params []string, query []pair) []Violation {
	if p.object && p.in == "query" && !p.json {
		object, found := p.deepObject(query)
		switch {
		case found:
			return check(list, p.schema, object, p.in, p.name)
		case p.required:
			return append(list, p.missing())
		}
		return list
	}
	texts := p.texts(r, params, query)
	switch {
	case len(texts) == 0 && p.required:
		return append(list, p.missing())
	case len(texts) == 0 || p.schema == nil:
		return list
	case len(texts) > 1 && !(p.array && p.explode):
		return append(list, Violation{In: p.in, Name: p.name, Detail: "is there more than once"})
	}
	v, err := p.value(texts)
	if err != nil {
		return append(list, Violation{In: p.in, Name: p.name, Detail: cut(err.Error(), maxDetail)})
	}
	return check(list, p.schema, v, p.in, p.name)
}

func (p *parameter) missing() Violation {
	return Violation{In: p.in, Name: p.name, Detail: "is required"}
}

// texts returns what a request says of the parameter.
func (p *parameter) texts(r *Request, params []string, query []pair) (texts []string) {
	switch p.in {
	case "path":
		return params[p.index : p.index+1]
	case "query":
		for _, q := range query {
			if q.name == p.name {
				texts = append(texts, q.value)
			}
		}
	case "header":
		if values := r.Header(p.name); len(values) > 0 { // several are a list (RFC 9110 section 5.3)
			if p.array {
				values = []string{strings.Join(trimmed(strings.Split(strings.Join(values, ","), ",")), ",")}
			}
			return values
		}
	case "cookie":
		for _, line := range r.Header("Cookie") {
			for part := range strings.SplitSeq(line, ";") {
				if name, value, ok := strings.Cut(strings.TrimSpace(part), "="); ok && name == p.name {
					texts = append(texts, value)
				}
			}
		}
	}
	return texts
}

func trimmed(list []string) []string {
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}

// CheckBody returns what is wrong with a body that Content has said is Seen.
func (o *Operation) CheckBody(media string, text []byte, bounds Bounds) []Violation {
	s := o.content(media).schema
	if media != form {
		v, err := Decode(text, bounds)
		if err != nil {
			return []Violation{{In: "body", Detail: cut("the body "+err.Error(), maxDetail)}}
		}
		return check(nil, s, v, "body", "")
	}
	fields, ok := pairs(string(text))
	if !ok {
		return []Violation{{In: "body", Detail: "the form can't be decoded, or has too many fields"}}
	}
	object := map[string]any{}
	for _, f := range fields {
		m := member(s, f.name)
		if slices.Contains(typesOf(m, 0), "array") {
			before, _ := object[f.name].([]any)
			object[f.name] = append(before, scalar(f.value, items(m)))
			continue
		}
		if _, twice := object[f.name]; twice {
			return []Violation{{In: "body", Pointer: pointer([]string{f.name}), Detail: "is there more than once"}}
		}
		object[f.name] = scalar(f.value, m)
	}
	return check(nil, s, object, "body", "")
}
