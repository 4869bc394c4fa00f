package middleware

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/method"
)

func corsType() *Type {
	return &Type{
		Name:      "cors",
		New:       func() proto.Message { return &middlewarev1.Cors{} },
		normalise: normaliseCors,
		Validate:  validateCors,

		AnswersPreflights: true,
	}
}

// normaliseCors writes registered methods in their own letters, which browsers compare exactly (Fetch standard,
// CORS-preflight fetch).
func normaliseCors(cfg *structpb.Struct) {
	for _, name := range []string{"allow_methods", "allowMethods"} { // protobuf's JSON has both
		for _, v := range cfg.GetFields()[name].GetListValue().GetValues() {
			if s, ok := v.GetKind().(*structpb.Value_StringValue); ok {
				s.StringValue = method.Normal(s.StringValue)
			}
		}
	}
}

func validateCors(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.Cors)
	if len(s.GetAllowOrigins()) == 0 {
		c.fail("allow_origins", "", `needs at least one origin, such as "https://app.example.com", or "*"`)
	}
	for i, o := range s.GetAllowOrigins() {
		if !validOrigin(o) {
			c.fail(fmt.Sprintf("allow_origins[%d]", i), o, `is no origin: scheme "://" host [":" port] without a path, with "*." before the host for any subdomain, or just "*"`)
		}
	}
	if s.GetAllowCredentials() && slices.Contains(s.GetAllowOrigins(), "*") {
		c.fail("allow_credentials", "true", `can't be together with the origin "*": list the origins that may send credentials`)
	}
	for i, name := range s.GetAllowMethods() {
		if !ValidFieldName(name) {
			c.fail(fmt.Sprintf("allow_methods[%d]", i), name, "is no HTTP method")
		}
	}
	for i, name := range s.GetAllowHeaders() {
		if name != "*" && !ValidFieldName(name) {
			c.fail(fmt.Sprintf("allow_headers[%d]", i), name, `is no header field name, nor "*"`)
		}
	}
	for i, name := range s.GetExposeHeaders() {
		if !ValidFieldName(name) {
			c.fail(fmt.Sprintf("expose_headers[%d]", i), name, "is no header field name")
		}
	}
	if a := s.GetMaxAge(); a != "" {
		if d, err := time.ParseDuration(a); err != nil || d < 0 || d > 24*time.Hour {
			c.fail("max_age", a, `has to be a duration from "0s" to "24h"`)
		}
	}
	return c.errs
}

func validOrigin(o string) bool {
	if o == "*" {
		return true
	}
	u, err := url.Parse(strings.Replace(o, "://*.", "://", 1))
	return err == nil && u.Scheme != "" && u.Host != "" && u.Path == "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil &&
		!strings.Contains(u.Host, "*") && !strings.HasSuffix(o, "?") && !strings.HasSuffix(o, "#")
}
