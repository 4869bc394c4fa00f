package main

import (
	"bytes"
	"encoding/json"
	"slices"

	"go.yaml.in/yaml/v3"
)

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

// obj returns an object of names and values in turn.
func obj(pairs ...any) object {
	var o object
	for i := 0; i < len(pairs); i += 2 {
		o = append(o, member{pairs[i].(string), pairs[i+1]})
	}
	return o
}

// with returns the object with another member, which is left out where it says nothing.
func (o object) with(name string, value any) object {
	switch v := value.(type) {
	case string:
		if v == "" {
			return o
		}
	case object:
		if len(v) == 0 {
			return o
		}
	case []any:
		if len(v) == 0 {
			return o
		}
	case []string:
		if len(v) == 0 {
			return o
		}
	case bool:
		if !v {
			return o
		}
	}
	return append(slices.Clip(o), member{name, value})
}

// get returns a member's value, or nil.
func (o object) get(name string) any {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	out.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := enc.Encode(m.name); err != nil {
			return nil, err
		}
		out.WriteByte(':')
		if err := enc.Encode(m.value); err != nil {
			return nil, err
		}
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// exampleOf returns YAML as JSON in its own order.
func exampleOf(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.MappingNode:
		out := object{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			v, err := exampleOf(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			out = append(out, member{n.Content[i].Value, v})
		}
		return out, nil
	case yaml.SequenceNode:
		out := []any{}
		for _, e := range n.Content {
			v, err := exampleOf(e)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	}
	var v any
	return v, n.Decode(&v)
}

func ref(kind, name string) object { return obj("$ref", "#/components/"+kind+"/"+name) }

// older returns a document, or a part of one, in the words of OpenAPI 3.0: "nullable" for the type "null", one type
// at a time, "enum" for "const".
func older(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = older(e)
		}
		return out
	case []object:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = older(e)
		}
		return out
	case object:
		return olderObject(v)
	}
	return v
}

func olderObject(o object) object {
	var out object
	for _, m := range o {
		switch types, several := m.value.([]string); {
		case m.name == "openapi":
			out = append(out, member{m.name, "3.0.4"})
		case m.name == "type" && several:
			nullable := slices.Contains(types, "null")
			types = slices.DeleteFunc(slices.Clone(types), func(t string) bool { return t == "null" })
			if len(types) == 1 {
				out = append(out, member{"type", types[0]})
			} else {
				var each []any
				for _, t := range types {
					each = append(each, obj("type", t))
				}
				out = append(out, member{"anyOf", each})
			}
			if nullable {
				out = append(out, member{"nullable", true})
			}
		case m.name == "const":
			out = append(out, member{"enum", []any{m.value}})
		case m.name == "anyOf":
			var rest []any
			for _, e := range m.value.([]any) {
				if s, ok := e.(object); !ok || s.get("type") != "null" {
					rest = append(rest, older(e))
				}
			}
			if len(rest) == len(m.value.([]any)) {
				out = append(out, member{"anyOf", rest})
			} else {
				out = append(out, member{"allOf", rest}, member{"nullable", true})
			}
		default:
			out = append(out, member{m.name, older(m.value)})
		}
	}
	return out
}
