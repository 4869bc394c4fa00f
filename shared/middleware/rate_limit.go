package middleware

import (
	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/ratelimit"
)

func rateLimitType() *Type {
	return &Type{
		Name:     "rate_limit",
		New:      func() proto.Message { return &configv1.RateLimit{} },
		Validate: validateRateLimit,
		Waits:    WaitsSometimes,
	}
}

func validateRateLimit(m proto.Message) []FieldError {
	var c collector
	ratelimit.Check(m.(*configv1.RateLimit), c.fail)
	return c.errs
}
