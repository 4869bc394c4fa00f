package middleware

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/template"
)

func headersType() *Type {
	return &Type{
		Name:     "headers",
		New:      func() proto.Message { return &middlewarev1.Headers{} },
		Validate: validateHeaders,
		Parallel: true,
	}
}

// framingFields can't be changed by configuration: they belong to the codecs.
var framingFields = []string{
	"connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}

// FramesMessages reports whether a field, by its name in lower case, frames messages or belongs to one connection.
func FramesMessages(name string) bool { return slices.Contains(framingFields, name) }

func validateHeaders(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.Headers)
	if proto.Size(s) == 0 {
		c.fail("request", "", "at least one of request and response has to change something")
	}
	c.changes("request", s.GetRequest(), template.InRequest)
	c.changes("response", s.GetResponse(), template.InResponse)
	return c.errs
}

func (c *collector) changes(side string, h *middlewarev1.HeaderChanges, in template.Place) {
	for _, name := range slices.Sorted(maps.Keys(h.GetSet())) {
		c.field(side+".set", name, h.GetSet()[name], in)
	}
	for _, name := range slices.Sorted(maps.Keys(h.GetAdd())) {
		c.field(side+".add", name, h.GetAdd()[name], in)
	}
	for i, name := range h.GetRemove() {
		c.fieldName(fmt.Sprintf("%s.remove[%d]", side, i), name, in)
	}
}

func (c *collector) field(where, name, value string, in template.Place) {
	c.fieldName(where, name, in)
	if !ValidFieldValue(value) {
		c.fail(where+"."+name, value, "has control characters, or white space at its ends")
	}
	if _, err := template.Parse(value, in); err != nil {
		c.fail(where+"."+name, value, "%s", err)
	}
}

// writtenFields are those of requests that the gateway writes itself: what middleware says there would not be sent.
var writtenFields = []string{"client-cert", "client-cert-chain", "expect", "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"}

// IsWritten reports whether the gateway writes a field of requests itself, by its name in lower case.
func IsWritten(name string) bool { return slices.Contains(writtenFields, name) }

func (c *collector) fieldName(where, name string, in template.Place) {
	lower := strings.ToLower(name)
	switch {
	case !ValidFieldName(name):
		c.fail(where, name, "is no header field name: letters, digits and !#$%%&'*+-.^_`|~")
	case FramesMessages(lower):
		c.fail(where, name, "can't be changed: it frames the message or belongs to one connection")
	case in == template.InRequest && IsWritten(lower), in == template.InResponse && lower == "x-request-id":
		c.fail(where, name, "can't be changed: the gateway writes it itself, from what it knows")
	}
}

// ValidFieldName reports whether s is a token (RFC 9110 section 5.6.2) of at most 256 bytes.
func ValidFieldName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

// ValidFieldValue reports whether s can be a field value as it stands (RFC 9110 section 5.5), of at most 8 KiB.
func ValidFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return strings.Trim(s, " \t") == s && len(s) <= 8<<10
}
