package middleware

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// maxBasicTTL is the longest that a verified password counts.
const maxBasicTTL = time.Hour

func basicAuthType() *Type {
	return &Type{
		Name:     "basic_auth",
		New:      func() proto.Message { return &middlewarev1.BasicAuth{} },
		Validate: validateBasicAuth,
		Waits:    WaitsSometimes,
	}
}

func validateBasicAuth(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.BasicAuth)
	if r := s.GetRealm(); len(r) > 128 || !isASCII(strings.ReplaceAll(r, " ", "")) || strings.ContainsAny(r, `"\`) {
		c.fail("realm", r, "has to be 1 to 128 visible ASCII characters and spaces, without quotes and backslashes")
	}
	if ttl := s.GetCacheTtl(); ttl != "" {
		if d, err := time.ParseDuration(ttl); err != nil || d < 0 || d > maxBasicTTL {
			c.fail("cache_ttl", ttl, `is no duration such as "5m", from "0s" to "1h"`)
		}
	}
	c.consumerHeader(s.GetConsumerHeader())
	c.excludePaths(s.GetExcludePaths())
	return c.errs
}
