package middleware

import (
	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

func authenticatedType() *Type {
	return &Type{
		Name: "authenticated",
		New:  func() proto.Message { return &middlewarev1.Authenticated{} },
		Validate: func(m proto.Message) []FieldError {
			var c collector
			c.excludePaths(m.(*middlewarev1.Authenticated).GetExcludePaths())
			return c.errs
		},
	}
}
