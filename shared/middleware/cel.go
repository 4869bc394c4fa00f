package middleware

import (
	"strings"

	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/expression"
)

func celType() *Type {
	return &Type{
		Name:     "cel",
		New:      func() proto.Message { return &middlewarev1.Cel{} },
		Validate: validateCel,
	}
}

func validateCel(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.Cel)
	if s.GetAllow() == "" && s.GetDeny() == "" {
		c.fail("allow", "", `is required unless there is deny: an expression such as request.method == "GET"`)
	}
	for _, e := range []struct{ field, text string }{{"allow", s.GetAllow()}, {"deny", s.GetDeny()}} {
		if e.text == "" {
			continue
		}
		if _, err := expression.Compile(e.text); err != nil {
			shown, _, _ := strings.Cut(e.text, "\n")
			c.fail(e.field, shown[:min(len(shown), 100)], "%s", err)
		}
	}
	if t := s.GetMessage(); len(t) > 256 || strings.ContainsFunc(t, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		c.fail("message", t, "has to be at most 256 characters of ASCII in one line")
	}
	return c.errs
}
