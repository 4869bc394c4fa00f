package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// describer gathers the parts of a document.
type describer struct {
	*settings
	schemas    schemas
	paths      map[string]map[string]object
	operations map[string]bool
}

// describe returns the OpenAPI document of all bound calls.
func describe(p *protogen.Plugin, set *settings, bindings map[string][]binding) (object, error) {
	d := &describer{set, schemas{map[string]object{}}, map[string]map[string]object{}, map[string]bool{}}
	var tags []any
	for _, file := range p.Files {
		for _, service := range file.Services {
			tag, bound := strings.TrimSuffix(strings.TrimSuffix(string(service.Desc.Name()), "Service"),
				"Config"), false
			for _, m := range service.Methods {
				for _, b := range bindings[string(m.Desc.FullName())] {
					bound = true
					if err := d.add(tag, m, b); err != nil {
						return nil, err
					}
				}
				delete(bindings, string(m.Desc.FullName()))
			}
			if bound {
				tags = append(tags, obj("name", tag).with("description", text(service.Comments.Leading)))
			}
		}
	}
	for selector := range bindings {
		return nil, fmt.Errorf("there is a binding of %s, which is no method", selector)
	}
	if err := d.common(p); err != nil {
		return nil, err
	}
	var paths object
	for _, path := range slices.Sorted(maps.Keys(d.paths)) {
		var item object
		for _, verb := range slices.Sorted(maps.Keys(d.paths[path])) {
			item = append(item, member{verb, d.paths[path][verb]})
		}
		paths = append(paths, member{path, item})
	}
	return obj(
		"openapi", "3.1.1",
		"info", obj("title", set.Info.Title, "version", set.Info.Version, "description",
			strings.TrimSpace(set.Info.Description)),
		"servers", []any{obj("url", "/")},
		"security", []any{obj("bearer", []any{})},
		"tags", tags,
		"paths", paths,
		"components", obj(
			"securitySchemes", obj("bearer", obj("type", "http", "scheme", "bearer", "description",
				"The administrator's token.")),
			"parameters", d.parameters(), "headers", responseHeaders(), "responses", d.responses(), "schemas",
			d.schemas.sorted(),
		),
	), nil
}

var inPath = regexp.MustCompile(`\{([a-z_]+)\}`)

// add describes one binding of a method.
func (d *describer) add(tag string, m *protogen.Method, b binding) error {
	call := string(m.Desc.Name())
	id := call
	if !b.first {
		if id = d.Operations[strings.ToUpper(b.verb)+" "+b.path]; id == "" {
			return fmt.Errorf("%s %s is another binding of %s and has no name in the settings' operations",
				b.verb, b.path, call)
		}
	}
	if d.operations[id] || d.paths[b.path][b.verb] != nil {
		return fmt.Errorf("%s, %s %s, is there twice", id, b.verb, b.path)
	}
	d.operations[id] = true
	var parameters []any
	taken := map[string]bool{b.body: true}
	for _, found := range inPath.FindAllStringSubmatch(b.path, -1) {
		name := found[1]
		taken[name] = true
		f := field(m.Input, name)
		if f == nil {
			return fmt.Errorf("%s: %s has no field %s", b.path, m.Input.Desc.FullName(), name)
		}
		schema := d.schemas.value(f, input)
		if f.Desc.Kind() == protoreflect.StringKind {
			schema = schema.with("minLength", any(1))
		}
		parameters = append(parameters, obj("name", name, "in", "path", "required", true).with("description",
			text(f.Comments.Leading)).with("schema", schema))
	}
	for _, f := range m.Input.Fields {
		if name := string(f.Desc.Name()); !taken[name] && isParameter(f) {
			schema := d.schemas.value(f, input)
			if f.Desc.IsList() {
				schema = obj("type", "array", "items", schema)
			}
			parameters = append(parameters, obj("name", name, "in", "query").with("description",
				text(f.Comments.Leading)).with("schema", schema))
		}
	}
	for _, p := range d.Parameters {
		if among(p.Calls, call) {
			parameters = append(parameters, ref("parameters", p.Name))
		}
	}
	op := obj("operationId", id, "tags", []any{tag}, "summary", words(id)).with("description",
		text(m.Comments.Leading)).with("parameters", parameters)
	if b.body != "" {
		body, err := d.body(m, b)
		if err != nil {
			return err
		}
		op = append(op, member{"requestBody", body})
	}
	op = append(op, member{"responses", d.answers(m, b)})
	if d.paths[b.path] == nil {
		d.paths[b.path] = map[string]object{}
	}
	d.paths[b.path][b.verb] = op
	return nil
}

// isParameter reports whether a field of a request can stand in a query.
func isParameter(f *protogen.Field) bool {
	return f.Message == nil || f.Message.Desc.FullName() == "google.protobuf.FieldMask"
}

func field(m *protogen.Message, name string) *protogen.Field {
	for _, f := range m.Fields {
		if string(f.Desc.Name()) == name {
			return f
		}
	}
	return nil
}

func (d *describer) body(m *protogen.Method, b binding) (object, error) {
	f := field(m.Input, b.body)
	if f == nil {
		return nil, fmt.Errorf("%s: %s has no field %s", b.path, m.Input.Desc.FullName(), b.body)
	}
	schema, types := obj(), []string{"application/json"}
	if among(d.MergePatches, string(m.Desc.Name())) {
		one := data(m.Output)
		if len(one) != 1 || one[0].Message == nil {
			return nil, fmt.Errorf("%s is a merge patch and does not return one resource", m.Desc.FullName())
		}
		schema, types = d.schemas.message(one[0].Message, patch), []string{"application/merge-patch+json"}
	} else {
		schema = d.schemas.message(f.Message, input)
	}
	var content object
	for _, t := range types {
		media := obj("schema", schema)
		if example, ok := d.Examples[string(f.Message.Desc.Name())]; ok {
			value, err := exampleOf(&example)
			if err != nil {
				return nil, fmt.Errorf("example of %s: %w", f.Message.Desc.Name(), err)
			}
			media = append(media, member{"example", value})
		}
		content = append(content, member{t, media})
	}
	return obj("required", true, "content", content), nil
}

// data returns the fields of a reply besides its meta.
func data(m *protogen.Message) []*protogen.Field {
	return slices.DeleteFunc(slices.Clone(m.Fields), func(f *protogen.Field) bool { return f.Desc.Name() == "meta" })
}

// resource reports whether a field is one resource, which has a version.
func resource(fields []*protogen.Field) bool {
	return len(fields) == 1 && fields[0].Message != nil && !fields[0].Desc.IsList() && field(fields[0].Message,
		"version") != nil
}

// answers describes the responses of a call.
func (d *describer) answers(m *protogen.Method, b binding) object {
	call, fields := string(m.Desc.Name()), data(m.Output)
	headers := obj("X-Request-Id", ref("headers", "X-Request-Id"))
	if resource(fields) {
		headers = append(headers, member{"ETag", ref("headers", "ETag")})
	}
	content := obj("application/json", obj("schema", d.envelope(m.Output, fields)))
	done := obj("description", "Done.", "headers", headers, "content", content)
	created := obj("description", "Created.", "headers", append(slices.Clip(headers), member{"Location",
		ref("headers", "Location")}), "content", content)
	var out object
	if !strings.HasPrefix(call, "Create") {
		out = append(out, member{"200", done})
	}
	if strings.HasPrefix(call, "Create") || field(m.Input, "allow_missing") != nil {
		out = append(out, member{"201", created})
	}
	for _, e := range d.Errors {
		if among(e.Calls, call) {
			status := strconv.Itoa(e.Status)
			out = append(out, member{status, ref("responses", status)})
		}
	}
	return out
}

// envelope returns a reference to the schema of a call's successful responses.
func (d *describer) envelope(m *protogen.Message, fields []*protogen.Field) object {
	name := string(m.Desc.Name())
	properties := obj("success", obj("type", "boolean", "const", true))
	required := []string{"success", "meta"}
	if len(fields) > 0 {
		required = []string{"success", "data", "meta"}
		properties = append(properties, member{"data", d.data(m, fields)})
	}
	properties = append(properties, member{"meta", ref("schemas", "Meta")})
	d.schemas.all[name] = obj("type", "object").with("description", text(m.Comments.Leading)).with("properties",
		properties).with("required", required)
	return ref("schemas", name)
}

func (d *describer) data(m *protogen.Message, fields []*protogen.Field) object {
	if len(fields) == 1 {
		schema, _ := d.schemas.property(fields[0], reply)
		return schema
	}
	var properties object
	var required []string
	for _, f := range fields {
		schema, _ := d.schemas.property(f, reply)
		properties = append(properties, member{string(f.Desc.Name()), schema})
		required = append(required, string(f.Desc.Name()))
	}
	name := strings.TrimSuffix(string(m.Desc.Name()), "Response") + "Data"
	d.schemas.all[name] = obj("type", "object", "properties", properties, "required", required)
	return ref("schemas", name)
}

func (d *describer) parameters() object {
	var out object
	for _, p := range d.Parameters {
		out = append(out, member{p.Name, obj("name", p.Name, "in", "header", "description", p.Description,
			"schema", obj("type", "string").with("pattern", p.Pattern))})
	}
	return out
}

func responseHeaders() object {
	header := func(description string) object {
		return obj("description", description, "schema", obj("type", "string"))
	}
	return obj(
		"X-Request-Id", header("The request's own, where it has a usable one, or a new one."),
		"ETag", header("The resource's version in quotes, for If-Match."),
		"Location", header("Path of what was created."),
	)
}

// responses describes the errors, one a status.
func (d *describer) responses() object {
	var out object
	for _, e := range d.Errors {
		headers := obj("X-Request-Id", ref("headers", "X-Request-Id"))
		for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
			headers = append(headers, member{name, obj("description", e.Headers[name], "schema", obj("type",
				"string"))})
		}
		description := fmt.Sprintf("%s: %s", strings.Join(e.Codes, ", "), strings.TrimSpace(e.Description))
		out = append(out, member{strconv.Itoa(e.Status), obj(
			"description", description, "headers", headers, "content", obj("application/json", obj("schema",
				ref("schemas", "ErrorResponse"))), "x-error-codes", e.Codes,
		)})
	}
	return out
}

// common adds the schemas that all responses share.
func (d *describer) common(p *protogen.Plugin) error {
	var replyMeta, detail *protogen.Message
	for _, file := range p.Files {
		for _, m := range file.Messages {
			switch m.Desc.Name() {
			case "ReplyMeta":
				replyMeta = m
			case "ErrorDetail":
				detail = m
			}
		}
	}
	if replyMeta == nil || detail == nil {
		return fmt.Errorf("there has to be a ReplyMeta and an ErrorDetail")
	}
	properties := obj(
		"timestamp", obj("type", "string", "format", "date-time", "description", "When the reply was made."),
		"request_id", obj("type", "string", "description", "As in X-Request-Id."),
		"version", obj("type", "string", "description", "Version of the API.", "const", d.Info.Version),
	)
	for _, f := range replyMeta.Fields {
		schema, _ := d.schemas.property(f, reply)
		properties = append(properties, member{string(f.Desc.Name()), schema})
	}
	d.schemas.all["Meta"] = obj("type", "object", "description",
		"What goes with every reply; members that say nothing are left out.",
		"properties", properties, "required", []string{"timestamp", "request_id", "version"})
	properties, required := nil, []string{"code", "message"}
	for _, f := range detail.Fields {
		schema, _ := d.schemas.property(f, reply)
		name := string(f.Desc.Name())
		if name == "problems" {
			name = "details"
		}
		properties = append(properties, member{name, schema})
	}
	d.schemas.all["Error"] = obj("type", "object", "description",
		"What is wrong; members that say nothing are left out.", "properties", properties, "required", required)
	d.schemas.all["ErrorResponse"] = obj("type", "object", "description", "Every error.", "properties",
		obj("success", obj("type", "boolean", "const", false), "error", ref("schemas", "Error"), "meta",
			ref("schemas", "Meta")),
		"required", []string{"success", "error", "meta"})
	return nil
}
