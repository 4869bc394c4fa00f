package middleware

import (
	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

func mtlsAuthType() *Type {
	return &Type{
		Name: "mtls_auth",
		New:  func() proto.Message { return &middlewarev1.MtlsAuth{} },
		Validate: func(m proto.Message) []FieldError {
			var c collector
			s := m.(*middlewarev1.MtlsAuth)
			c.consumerHeader(s.GetConsumerHeader())
			c.excludePaths(s.GetExcludePaths())
			return c.errs
		},
	}
}
