package middleware

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/jose"
)

// The limits of oauth2_introspection's times.
const (
	maxIntrospectionTTL     = time.Hour
	maxIntrospectionTimeout = 5 * time.Second
)

func oauth2IntrospectionType() *Type {
	return &Type{
		Name:     "oauth2_introspection",
		New:      func() proto.Message { return &middlewarev1.Oauth2Introspection{} },
		Validate: validateOauth2Introspection,
		Parallel: true,
		Waits:    WaitsSometimes,
		sentTo:   map[string]string{"client_secret": "url"},
	}
}

func validateOauth2Introspection(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.Oauth2Introspection)
	if s.GetUrl() == "" {
		c.fail("url", "", "is required: where the authorisation server is asked about tokens")
	} else {
		c.providerURL("url", s.GetUrl())
	}
	c.identityText("client_id", s.GetClientId(), "who the node is to the server")
	switch n := len(s.GetClientSecret()); {
	case n == 0:
		c.fail("client_secret", "", "is required: servers must not tell everybody about tokens")
	case n > maxIdentityBytes:
		c.fail("client_secret", "", "has more than %d bytes", maxIdentityBytes)
	}
	if text := s.GetCacheTtl(); text != "" {
		if d, err := time.ParseDuration(text); err != nil || d < 0 || d > maxIntrospectionTTL {
			c.fail("cache_ttl", text, `is no duration such as "30s", from "0s" to "1h"`)
		}
	}
	c.duration("timeout", s.GetTimeout(), maxIntrospectionTimeout)
	if e := s.GetOnError(); e != "" && e != "deny" && e != "allow" {
		c.fail("on_error", e, `has to be "deny" or "allow"`)
	}
	c.identityTexts("audiences", s.GetAudiences())
	c.claimHeaders(s.GetClaimsToHeaders())
	c.claimName("groups_claim", s.GetGroupsClaim())
	c.claimName("scope_claim", s.GetScopeClaim())
	c.claimName("consumer_claim", s.GetConsumerClaim())
	c.excludePaths(s.GetExcludePaths())
	if n := s.GetMaxTokenBytes(); n != 0 && (n < minTokenBytes || n > jose.MaxTokenBytes) {
		c.fail("max_token_bytes", fmt.Sprint(n), "has to be from %d to %d", minTokenBytes, jose.MaxTokenBytes)
	}
	c.cacheBytes(s.GetMaxCacheBytes())
	return c.errs
}
