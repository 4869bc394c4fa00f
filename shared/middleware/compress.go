package middleware

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// The limits of compress's settings.
const (
	maxMediaTypes = 256
	maxMinBytes   = 1 << 30
)

func compressType() *Type {
	return &Type{
		Name:     "compress",
		New:      func() proto.Message { return &middlewarev1.Compress{} },
		Validate: validateCompress,
	}
}

func validateCompress(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.Compress)
	c.algorithms(s.GetAlgorithms())
	if n := len(s.GetTypes()); n > maxMediaTypes {
		c.fail("types", fmt.Sprint(n), "has more than %d media types", maxMediaTypes)
	}
	for i, t := range s.GetTypes() {
		if !ValidMediaRange(t) {
			c.fail(fmt.Sprintf("types[%d]", i), t,
				`is no media type such as "application/json", "text/*", "application/*+json" or "*/*", without parameters`)
		}
	}
	if n := s.GetMinBytes(); n > maxMinBytes {
		c.fail("min_bytes", fmt.Sprint(n), "has to be at most %d", maxMinBytes)
	}
	return c.errs
}

// ValidMediaRange reports whether s is a media type without parameters (RFC 9110 section 8.3.1), or a pattern of
// some: "type/*", "type/*+suffix" or "*/*".
func ValidMediaRange(s string) bool {
	kind, subtype, ok := strings.Cut(s, "/")
	if !ok || kind == "*" && subtype != "*" {
		return false
	}
	if suffix, any := strings.CutPrefix(subtype, "*"); any {
		if suffix != "" && (suffix[0] != '+' || !ValidFieldName(suffix[1:]) || strings.Contains(suffix, "*")) {
			return false
		}
	} else if !ValidFieldName(subtype) || strings.Contains(subtype, "*") {
		return false
	}
	return kind == "*" || ValidFieldName(kind) && !strings.Contains(kind, "*")
}
