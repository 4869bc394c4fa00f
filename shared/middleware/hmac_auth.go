package middleware

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// The limits of hmac_auth's settings.
const (
	maxComponents = 32
	maxNonces     = 10_000_000
	maxDigestBody = 64 << 20
)

// derivedComponents are those of RFC 9421 section 2.2 that requests have and settings may demand.
var derivedComponents = []string{"@method", "@authority", "@scheme", "@path", "@query", "@target-uri",
	"@request-target"}

func hmacAuthType() *Type {
	return &Type{
		Name:     "hmac_auth",
		New:      func() proto.Message { return &middlewarev1.HmacAuth{} },
		Validate: validateHMACAuth,
		Waits:    WaitsSometimes,
	}
}

func validateHMACAuth(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.HmacAuth)
	if n := len(s.GetComponents()); n > maxComponents {
		c.fail("components", fmt.Sprint(n), "has more than %d entries", maxComponents)
	}
	for i, name := range s.GetComponents() {
		at := fmt.Sprintf("components[%d]", i)
		switch {
		case strings.HasPrefix(name, "@") && !slices.Contains(derivedComponents, name):
			c.fail(at, name, "is none of %s", strings.Join(derivedComponents, ", "))
		case strings.HasPrefix(name, "@"):
		case !ValidFieldName(name) || name != strings.ToLower(name):
			c.fail(at, name, "has to be the name of a field in lower case")
		case name == "signature" || name == "signature-input":
			c.fail(at, name, "is what says the signature itself")
		}
		if slices.Contains(s.GetComponents()[:i], name) {
			c.fail(at, name, "is there twice")
		}
	}
	if l := s.GetLabel(); l != "" && !isLabel(l) {
		c.fail("label", l, "has to be a key of RFC 8941: a-z, 0-9, _, -, . and *, the first a letter or *")
	}
	for _, d := range []struct {
		field, text string
		low, high   time.Duration
	}{{"max_age", s.GetMaxAge(), time.Second, 24 * time.Hour}, {"clock_skew", s.GetClockSkew(), 0, 10 * time.Minute}} {
		if d.text == "" {
			continue
		}
		if v, err := time.ParseDuration(d.text); err != nil || v < d.low || v > d.high {
			c.fail(d.field, d.text, "is no duration from %q to %q", d.low, d.high)
		}
	}
	if n := s.GetMaxNonces(); n > maxNonces {
		c.fail("max_nonces", fmt.Sprint(n), "has to be at most %d", maxNonces)
	}
	if n := s.GetMaxBodyBytes(); n > maxDigestBody {
		c.fail("max_body_bytes", fmt.Sprint(n), "has to be at most %d", maxDigestBody)
	}
	c.consumerHeader(s.GetConsumerHeader())
	c.excludePaths(s.GetExcludePaths())
	return c.errs
}

func isLabel(s string) bool {
	for i, r := range s {
		if r != '*' && (r < 'a' || r > 'z') && (i == 0 || r != '_' && r != '-' && r != '.' && (r < '0' || r > '9')) {
			return false
		}
	}
	return len(s) <= 64
}
