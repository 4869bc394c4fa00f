package middleware

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/jose"
	"gateway.internal/shared/suggest"
)

// The limits of jwt's settings, and of those that other types share with it.
const (
	maxIssuers       = 20
	maxIdentityTexts = 64
	maxIdentityBytes = 1024
	maxClockSkew     = 10 * time.Minute
	minTokenBytes    = 256
	minCacheBytes    = 64 << 10
	maxCacheBytes    = 1 << 30
)

func jwtType() *Type {
	return &Type{
		Name:      "jwt",
		New:       func() proto.Message { return &middlewarev1.Jwt{} },
		normalise: normaliseJwt,
		Validate:  validateJwt,
		Parallel:  true,
		Waits:     WaitsSometimes,
	}
}

// normaliseJwt makes keys that are written as an object the text that is stored.
func normaliseJwt(cfg *structpb.Struct) {
	for _, item := range cfg.GetFields()["issuers"].GetListValue().GetValues() {
		issuer := item.GetStructValue().GetFields()
		keys := issuer["jwks"].GetStructValue()
		if keys == nil {
			continue
		}
		if text, err := json.Marshal(keys.AsMap()); err == nil {
			issuer["jwks"] = structpb.NewStringValue(string(text))
		}
	}
}

func validateJwt(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.Jwt)
	switch n := len(s.GetIssuers()); {
	case n == 0:
		c.fail("issuers", "", "is required: who issues the tokens, and where the keys are")
	case n > maxIssuers:
		c.fail("issuers", fmt.Sprint(n), "has more than %d issuers", maxIssuers)
	}
	names := map[string]bool{}
	for i, issuer := range s.GetIssuers() {
		at := fmt.Sprintf("issuers[%d].", i)
		name := issuer.GetIssuer()
		c.identityText(at+"issuer", name, `the claim "iss" of its tokens`)
		if names[name] {
			c.fail(at+"issuer", name, "is that of an issuer before")
		}
		names[name] = true
		c.identityTexts(at+"audiences", issuer.GetAudiences())
		c.clockSkew(at+"clock_skew", issuer.GetClockSkew())
		c.keysOf(at, issuer)
	}
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

// keysOf checks where an issuer's keys are, and that they fit its algorithms.
func (c *collector) keysOf(at string, s *middlewarev1.JwtIssuer) {
	symmetric := false
	for i, name := range s.GetAlgorithms() {
		field := fmt.Sprintf("%salgorithms[%d]", at, i)
		switch {
		case !slices.Contains(jose.Algorithms(), name):
			c.fail(field, name, "is no signature algorithm that is supported%s", suggest.Clause(name, jose.Algorithms()))
		case jose.SymmetricAlgorithm(name) && s.GetJwks() == "":
			c.fail(field, name, "is for keys that are secret, which are only taken from jwks")
		}
		symmetric = symmetric || jose.SymmetricAlgorithm(name)
	}
	switch {
	case (s.GetJwksUrl() == "") == (s.GetJwks() == ""):
		c.fail(at+"jwks_url", s.GetJwksUrl(), "either this or jwks is required: where the issuer's keys are")
		return
	case s.GetJwksUrl() != "":
		c.providerURL(at+"jwks_url", s.GetJwksUrl())
		return
	}
	set, problems, err := jose.ParseSet([]byte(s.GetJwks()), true)
	if err != nil {
		c.fail(at+"jwks", "", `is no JWK Set such as {"keys":[...]}: it %s`, err)
		return
	}
	for _, p := range problems {
		c.fail(at+"jwks", "", "its key at %d %s", p.Index, p.Err)
	}
	if set.Len() == 0 {
		if len(problems) == 0 {
			c.fail(at+"jwks", "", "has no key")
		}
		return
	}
	if !set.Fits(s.GetAlgorithms()) {
		if set.Keys()[0].Symmetric() && !symmetric {
			c.fail(at+"algorithms", "", "has to name HS256, HS384 or HS512, since the key in jwks is a secret one")
			return
		}
		c.fail(at+"jwks", "", "has no key that fits algorithms")
	}
}

// claimHeaders checks which claims become fields.
func (c *collector) claimHeaders(headers map[string]string) {
	if len(headers) > maxIdentityTexts {
		c.fail("claims_to_headers", fmt.Sprint(len(headers)), "has more than %d entries", maxIdentityTexts)
	}
	seen := map[string]string{}
	for _, claim := range slices.Sorted(maps.Keys(headers)) {
		field, name := "claims_to_headers."+claim, headers[claim]
		c.identityText("claims_to_headers", claim, "the name of a claim")
		lower := strings.ToLower(name)
		switch other := seen[lower]; {
		case !ValidFieldName(name):
			c.fail(field, name, "is no field name")
		case slices.Contains(framingFields, lower):
			c.fail(field, name, "belongs to the connection and can't be passed on")
		case slices.Contains(writtenFields, lower):
			c.fail(field, name, "is written by the gateway itself, from what it knows")
		case lower == "authorization" || lower == "cookie":
			c.fail(field, name, "is what clients show who they are by: choose another field, such as X-User")
		case other != "":
			c.fail(field, name, "is already the field of the claim %q", other)
		}
		seen[lower] = claim
	}
}

func (c *collector) claimName(field, name string) {
	if name != "" {
		c.identityText(field, name, "the name of a claim")
	}
}

// identityText checks a text that is compared with what a token has.
func (c *collector) identityText(field, text, what string) {
	switch {
	case text == "":
		c.fail(field, "", "is required: %s", what)
	case len(text) > maxIdentityBytes:
		c.fail(field, text[:32]+"...", "has more than %d bytes", maxIdentityBytes)
	}
}

func (c *collector) identityTexts(field string, texts []string) {
	if n := len(texts); n > maxIdentityTexts {
		c.fail(field, fmt.Sprint(n), "has more than %d entries", maxIdentityTexts)
	}
	for i, text := range texts {
		c.identityText(fmt.Sprintf("%s[%d]", field, i), text, "leave the entry out")
	}
}

// clockSkew checks a duration that may be 0.
func (c *collector) clockSkew(field, text string) {
	if text == "" {
		return
	}
	if d, err := time.ParseDuration(text); err != nil || d < 0 || d > maxClockSkew {
		c.fail(field, text, `is no duration such as "30s", from "0s" to "10m"`)
	}
}

func (c *collector) cacheBytes(n uint32) {
	if n != 0 && (n < minCacheBytes || n > maxCacheBytes) {
		c.fail("max_cache_bytes", fmt.Sprint(n), "has to be from %d to %d", minCacheBytes, maxCacheBytes)
	}
}

// providerURL checks the URL of something of an identity provider. Which addresses are asked is each node's to say.
func (c *collector) providerURL(field, text string) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil ||
		u.Fragment != "" || len(text) > maxIdentityBytes || !isASCII(text) {
		c.fail(field, withoutUser(text), "is no URL such as https://issuer.example/keys, without a user and a fragment")
	}
}

// withoutUser returns a URL as messages may have it: without a password.
func withoutUser(text string) string {
	scheme, rest, found := strings.Cut(text, "://")
	if at := strings.LastIndexByte(rest, '@'); found && at >= 0 {
		return scheme + "://..." + rest[at:]
	}
	return text
}
