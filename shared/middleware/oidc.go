package middleware

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// The limits of oidc's settings.
const (
	minSessionSecret   = 32
	minSessionLifetime = time.Minute
	maxSessionLifetime = 720 * time.Hour
)

func oidcType() *Type {
	return &Type{
		Name:     "oidc",
		New:      func() proto.Message { return &middlewarev1.Oidc{} },
		Validate: validateOidc,
		Waits:    WaitsSometimes,
		sentTo:   map[string]string{"client_secret": "issuer"}, // to the token endpoint that the issuer names
	}
}

// sessionCookie is what a session's cookie can be called; its own name is longer.
var sessionCookie = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func validateOidc(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.Oidc)
	if s.GetIssuer() == "" {
		c.fail("issuer", "", "is required: the URL of the OpenID provider")
	} else if c.providerURL("issuer", s.GetIssuer()); strings.Contains(s.GetIssuer(), "?") {
		c.fail("issuer", s.GetIssuer(), "can't have a query")
	}
	c.identityText("client_id", s.GetClientId(), "who the gateway is to the provider")
	if n := len(s.GetClientSecret()); n > maxIdentityBytes {
		c.fail("client_secret", "", "has more than %d bytes", maxIdentityBytes)
	}
	c.identityTexts("scopes", s.GetScopes())
	for i, scope := range s.GetScopes() {
		if !isASCII(scope) || strings.ContainsAny(scope, `"\`) {
			c.fail(fmt.Sprintf("scopes[%d]", i), scope, "is no scope: RFC 6749 section 3.3")
		}
	}
	for field, secret := range map[string]string{
		"session_secret": s.GetSessionSecret(), "previous_session_secret": s.GetPreviousSessionSecret(),
	} {
		if n := len(secret); n < minSessionSecret && (n > 0 || field == "session_secret") || n > maxIdentityBytes {
			c.fail(field, "", "has to have %d to %d bytes, random ones", minSessionSecret, maxIdentityBytes)
		}
	}
	paths := map[string]string{}
	for _, p := range []struct{ field, path, absent string }{
		{"redirect_path", s.GetRedirectPath(), "/oauth2/callback"}, {"logout_path", s.GetLogoutPath(), "/oauth2/logout"},
		{"after_logout_path", s.GetAfterLogoutPath(), "/"},
	} {
		path := p.path
		if path == "" {
			path = p.absent
		}
		if path[0] != '/' || strings.HasPrefix(path, "//") || strings.ContainsAny(path, `?#\ `) || !isASCII(path) {
			c.fail(p.field, p.path, `is no path such as %q, without a query`, p.absent)
		}
		if other := paths[path]; other != "" {
			c.fail(p.field, p.path, "is %s as well", other)
		}
		paths[path] = p.field
	}
	if name := s.GetCookieName(); name != "" && !sessionCookie.MatchString(name) {
		c.fail("cookie_name", name, `has other characters than letters, digits, "-" and "_", or more than 64`)
	}
	if text := s.GetSessionLifetime(); text != "" {
		if d, err := time.ParseDuration(text); err != nil || d < minSessionLifetime || d > maxSessionLifetime {
			c.fail("session_lifetime", text, `is no duration such as "12h", from "1m" to "720h"`)
		}
	}
	c.claimHeaders(s.GetClaimsToHeaders())
	c.claimName("groups_claim", s.GetGroupsClaim())
	c.claimName("scope_claim", s.GetScopeClaim())
	c.claimName("consumer_claim", s.GetConsumerClaim())
	c.excludePaths(s.GetExcludePaths())
	return c.errs
}
