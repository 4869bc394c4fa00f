package config

import (
	"encoding/json"
	"fmt"
	"mime"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/suggest"
	"gateway.internal/shared/template"
)

const (
	maxErrorPages  = 32
	maxErrorBodies = 8
)

// MediaKind is how a media type is written.
type MediaKind uint8

// The kinds; in OpaqueMedia nothing can be put in.
const (
	OpaqueMedia MediaKind = iota
	PlainMedia
	JSONMedia
	MarkupMedia // HTML and XML
)

// MediaKindOf returns the kind of a media type without parameters, in lower case.
func MediaKindOf(mediaType string) MediaKind {
	switch {
	case mediaType == "text/plain":
		return PlainMedia
	case mediaType == "application/json", strings.HasSuffix(mediaType, "+json"):
		return JSONMedia
	case mediaType == "text/html", mediaType == "text/xml", mediaType == "application/xml", strings.HasSuffix(mediaType, "+xml"):
		return MarkupMedia
	}
	return OpaqueMedia
}

var errorStatus = regexp.MustCompile("^[45]([0-9][0-9]|xx)$")

// errorPages checks what a policy says of errors.
func (c *checker) errorPages(m *configv1.Policy) {
	if n := len(m.GetErrors()); n > maxErrorPages {
		c.fail("errors", "", "has %d entries; %d are allowed", n, maxErrorPages)
	}
	for i, page := range m.GetErrors() {
		c.errorPage(fmt.Sprintf("errors[%d].", i), page)
	}
	if m.GetGlobal() {
		c.globalPolicy(m)
	}
}

func (c *checker) errorPage(at string, page *configv1.ErrorPage) {
	codes := func(yield func(string) bool) {
		for _, code := range fault.Codes() {
			if !yield(string(code)) {
				return
			}
		}
	}
	for i, code := range page.GetCodes() {
		if !slices.Contains(slices.Collect(codes), code) {
			c.fail(fmt.Sprintf("%scodes[%d]", at, i), code, "is no code of an error%s", suggest.Hint(code, codes))
		}
	}
	for i, s := range page.GetStatuses() {
		if !errorStatus.MatchString(s) {
			c.fail(fmt.Sprintf("%sstatuses[%d]", at, i), s, `has to be a status from 400 to 599, "4xx" or "5xx"`)
		}
	}
	if n := len(page.GetBodies()); n == 0 || n > maxErrorBodies {
		c.fail(at+"bodies", "", "has %d entries; 1 to %d are allowed", n, maxErrorBodies)
	}
	seen := map[string]bool{}
	for i, b := range page.GetBodies() {
		mediaType := c.errorBody(fmt.Sprintf("%sbodies[%d].", at, i), b)
		if seen[mediaType] {
			c.fail(fmt.Sprintf("%sbodies[%d].content_type", at, i), b.GetContentType(), "is there twice")
		}
		seen[mediaType] = true
	}
}

// errorBody checks a body and returns its media type.
func (c *checker) errorBody(at string, b *configv1.ErrorBody) string {
	mediaType, _, err := mime.ParseMediaType(b.GetContentType())
	if err != nil || !strings.Contains(mediaType, "/") || strings.Contains(mediaType, "*") {
		c.fail(at+"content_type", b.GetContentType(), `has to be a media type such as "text/html"`)
		return b.GetContentType()
	}
	body := b.GetBody()
	if len(body) > maxBodyBytes {
		c.fail(at+"body", "", "has %d bytes; %d are allowed", len(body), maxBodyBytes)
	}
	if body == "" && mediaType != "application/json" {
		c.fail(at+"body", "", "is required: only that of application/json may be left out, for the gateway's own")
	}
	parts, err := template.Parse(body, template.InError)
	kind := MediaKindOf(mediaType)
	switch {
	case err != nil:
		c.fail(at+"body", "", "%s", err)
	case kind == OpaqueMedia && slices.ContainsFunc(parts, func(p template.Part) bool { return p.Variable != template.None }):
		c.fail(at+"body", "", "has variables, which is only possible in text/plain, JSON, HTML and XML, not in %s", mediaType)
	case kind == JSONMedia && body != "" && !json.Valid(sample(parts)):
		c.fail(at+"body", "", `is no JSON once variables have values: those of texts stand inside of a string, as in "${error.message}"`)
	}
	return mediaType
}

// sample returns a text with values for its variables, numbers where they are always numbers.
func sample(parts []template.Part) []byte {
	var b []byte
	for _, p := range parts {
		switch p.Variable {
		case template.None:
			b = append(b, p.Literal...)
		case template.ResponseStatus:
			b = append(b, '1')
		default:
			b = append(b, 'a')
		}
	}
	return b
}

// globalPolicy checks that a global policy has nothing but errors.
func (c *checker) globalPolicy(m *configv1.Policy) {
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		switch f.Name() {
		case "id", "name", "created_at", "updated_at", "version", "labels", "errors", "global":
		default:
			c.fail(string(f.Name()), "", "can't be together with global: a global policy has nothing but errors")
		}
		return true
	})
	if len(m.GetErrors()) == 0 {
		c.fail("errors", "", "is required with global: a global policy has nothing else")
	}
}

// checkGlobalPolicies finds a second global policy.
func (p *planner) checkGlobalPolicies(next *Config, touched [lastKind + 1]map[string]bool, at map[location]string) {
	if len(touched[Policy]) == 0 {
		return
	}
	var global []*Entry
	for _, e := range next.Sorted(Policy) {
		if e.Message.(*configv1.Policy).GetGlobal() {
			global = append(global, e)
		}
	}
	for i, e := range global {
		if len(global) > 1 && touched[Policy][e.ID()] {
			p.problems.add(Policy, e.Name(), at[location{Policy, e.ID()}], "global", "true", "is said by policy %q too: at most one is global", global[(i+1)%len(global)].Name())
		}
	}
}

// GlobalPolicy returns the global policy; nil: there is none.
func (c *Config) GlobalPolicy() *configv1.Policy {
	for e := range c.All(Policy) {
		if m := e.Message.(*configv1.Policy); m.GetGlobal() {
			return m
		}
	}
	return nil
}
