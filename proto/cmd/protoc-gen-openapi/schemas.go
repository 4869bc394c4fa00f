package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// form is one of the three ways in which a message travels as JSON.
type form string

const (
	// reply has every field but absent messages and optional ones.
	reply form = ""
	// input may have any field that requests give.
	input form = "Input"
	// patch is input in which null takes away (RFC 7386).
	patch form = "Patch"
)

// schemas are the messages that the calls use, by name and form.
type schemas struct {
	all map[string]object
}

func (s *schemas) sorted() object {
	var out object
	for _, name := range slices.Sorted(maps.Keys(s.all)) {
		out = append(out, member{name, s.all[name]})
	}
	return out
}

// message returns a reference to a message's schema, or the schema itself of a well-known type.
func (s *schemas) message(m *protogen.Message, f form) object {
	switch m.Desc.FullName() {
	case "google.protobuf.Timestamp":
		return obj("type", "string", "format", "date-time")
	case "google.protobuf.Struct":
		return obj("type", "object", "additionalProperties", true)
	case "google.protobuf.Value":
		return obj("description", "Any JSON value.")
	case "google.protobuf.FieldMask":
		return obj("type", "string", "description", "Paths of fields, separated by commas.")
	}
	name := string(m.Desc.Name()) + string(f)
	if _, known := s.all[name]; known {
		return ref("schemas", name)
	}
	s.all[name] = nil // a message may have itself
	var properties object
	var required []string
	for _, field := range m.Fields {
		if p, ok := s.property(field, f); ok {
			properties = append(properties, member{string(field.Desc.Name()), p})
			if f == reply && alwaysSent(field) {
				required = append(required, string(field.Desc.Name()))
			}
		}
	}
	schema := obj("type", "object").with("description", text(m.Comments.Leading)).with("properties", properties).
		with("required", required)
	if f != reply {
		schema = append(schema, member{"additionalProperties", false})
	}
	s.all[name] = schema
	return ref("schemas", name)
}

// alwaysSent reports whether replies have a field whatever its value, as protojson's EmitDefaultValues has it.
func alwaysSent(f *protogen.Field) bool {
	return f.Desc.IsList() || f.Desc.IsMap() || f.Oneof == nil && f.Message == nil
}

func use(f *protogen.Field) configv1.FieldUse {
	return proto.GetExtension(f.Desc.Options(), configv1.E_Use).(configv1.FieldUse)
}

// property returns a field's schema; false: messages of this form don't have the field.
func (s *schemas) property(f *protogen.Field, form form) (object, bool) {
	switch u := use(f); {
	case u == configv1.FieldUse_FIELD_USE_INTERNAL, u == configv1.FieldUse_FIELD_USE_WRITE_ONLY && form == reply:
		return nil, false
	case u == configv1.FieldUse_FIELD_USE_READ_ONLY && form == patch:
		return nil, false
	}
	var schema object
	switch {
	case f.Desc.IsMap():
		entry := s.value(f.Message.Fields[1], form)
		if form == patch {
			entry = nullable(entry)
		}
		schema = obj("type", "object", "additionalProperties", entry)
	case f.Desc.IsList():
		items := form
		if form == patch { // a list is replaced as a whole
			items = input
		}
		schema = obj("type", "array", "items", s.value(f, items))
	default:
		schema = s.value(f, form)
	}
	if form == patch && !isKept(f) {
		schema = nullable(schema)
	}
	switch use(f) {
	case configv1.FieldUse_FIELD_USE_READ_ONLY:
		if form == input {
			schema = beside(schema).with("readOnly", true)
		}
	case configv1.FieldUse_FIELD_USE_WRITE_ONLY:
		schema = beside(schema).with("writeOnly", true)
	}
	if d := text(f.Comments.Leading); d != "" && schema.get("description") == nil {
		schema = beside(schema).with("description", d)
	}
	return schema, true
}

// isKept reports whether a patch can't take a field away: a resource, which has a version, has a name, and what is
// write-only stays where it is left out.
func isKept(f *protogen.Field) bool {
	return use(f) == configv1.FieldUse_FIELD_USE_WRITE_ONLY || f.Desc.Name() == "name" && field(f.Parent, "version") != nil
}

// beside returns a schema that may have other members: a reference may not.
func beside(schema object) object {
	if schema.get("$ref") != nil {
		return obj("allOf", []any{schema})
	}
	return schema
}

// nullable returns a schema that takes null too.
func nullable(schema object) object {
	if t, ok := schema.get("type").(string); ok {
		out := slices.Clone(schema)
		for i := range out {
			if out[i].name == "type" {
				out[i].value = []string{t, "null"}
			}
		}
		return out
	}
	if types, ok := schema.get("type").([]string); ok {
		out := slices.Clone(schema)
		for i := range out {
			if out[i].name == "type" {
				out[i].value = append(slices.Clone(types), "null")
			}
		}
		return out
	}
	if schema.get("$ref") != nil {
		return obj("anyOf", []any{schema, obj("type", "null")})
	}
	return schema // anything is taken already
}

// value returns the schema of a field's values, of one element where it is a list.
func (s *schemas) value(f *protogen.Field, form form) object {
	switch f.Desc.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return s.message(f.Message, form)
	case protoreflect.EnumKind:
		var names []string
		for _, v := range f.Enum.Values {
			names = append(names, string(v.Desc.Name()))
		}
		return obj("type", "string", "enum", names)
	case protoreflect.BoolKind:
		return obj("type", "boolean")
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return obj("type", "integer", "format", "int32")
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return obj("type", "integer", "format", "int64", "minimum", 0, "maximum", 1<<32-1)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind, protoreflect.Uint64Kind,
		protoreflect.Fixed64Kind:
		if form == reply { // a number of 64 bits is a string in protobuf's JSON
			return obj("type", "string", "pattern", "^-?[0-9]+$")
		}
		return obj("type", []string{"integer", "string"})
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return obj("type", "number", "format", "double")
	case protoreflect.BytesKind:
		return obj("type", "string", "format", "byte")
	}
	return obj("type", "string")
}

// text returns a comment as one paragraph a blank line.
func text(c protogen.Comments) string {
	var out []string
	for _, paragraph := range strings.Split(strings.TrimSpace(string(c)), "\n\n") {
		out = append(out, strings.Join(strings.Fields(paragraph), " "))
	}
	return strings.TrimSpace(strings.Join(out, "\n\n"))
}

// words makes "List routes" of "ListRoutes".
func words(name string) string {
	var out strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			fmt.Fprintf(&out, " %c", r+'a'-'A')
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}
