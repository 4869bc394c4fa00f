package middleware

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// maxTrustedOrigins is how many origins one middleware may trust: each request is compared with all.
const maxTrustedOrigins = 256

func csrfType() *Type {
	return &Type{
		Name:     "csrf",
		New:      func() proto.Message { return &middlewarev1.Csrf{} },
		Validate: validateCsrf,
		Parallel: true,
	}
}

func validateCsrf(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.Csrf)
	if n := len(s.GetTrustedOrigins()); n > maxTrustedOrigins {
		c.fail("trusted_origins", fmt.Sprint(n), "has more than %d origins", maxTrustedOrigins)
	}
	for i, o := range s.GetTrustedOrigins() {
		if o == "*" || !validOrigin(o) {
			c.fail(fmt.Sprintf("trusted_origins[%d]", i), o,
				`is no origin such as "https://app.example.com" or "https://*.example.com"`)
		}
	}
	c.excludePaths(s.GetExcludePaths())
	return c.errs
}
