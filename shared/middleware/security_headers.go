package middleware

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

const (
	maxHSTSAge = 2 * 365 * 24 * time.Hour
	// preloadAge is the least that the lists of browsers take.
	preloadAge = 365 * 24 * time.Hour
)

func securityHeadersType() *Type {
	return &Type{
		Name:     "security_headers",
		New:      func() proto.Message { return &middlewarev1.SecurityHeaders{} },
		Validate: validateSecurityHeaders,
		Parallel: true,
	}
}

// referrerPolicies are the values of the W3C's Referrer Policy, section 3.
var referrerPolicies = []string{
	"no-referrer", "no-referrer-when-downgrade", "same-origin", "origin", "strict-origin", "origin-when-cross-origin",
	"strict-origin-when-cross-origin", "unsafe-url",
}

func validateSecurityHeaders(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.SecurityHeaders)
	c.transportSecurity(s.GetStrictTransportSecurity())
	if v := s.GetFrameOptions(); !slices.Contains([]string{"", "deny", "sameorigin", "off"}, v) {
		c.fail("frame_options", v, `has to be "deny", "sameorigin" or "off"`)
	}
	if v := s.GetContentTypeOptions(); !slices.Contains([]string{"", "nosniff", "off"}, v) {
		c.fail("content_type_options", v, `has to be "nosniff" or "off"`)
	}
	if v := s.GetReferrerPolicy(); v != "" && v != "off" {
		for item := range strings.SplitSeq(v, ",") {
			if !slices.Contains(referrerPolicies, strings.Trim(item, " ")) {
				c.fail("referrer_policy", v, `has to be "off", or some of %s`, strings.Join(referrerPolicies, ", "))
				break
			}
		}
	}
	if v := s.GetContentSecurityPolicy(); !ValidFieldValue(v) {
		c.fail("content_security_policy", v, "is no field value: at most 8 KiB in one line, without blanks at its ends")
	}
	return c.errs
}

func (c *collector) transportSecurity(s *middlewarev1.StrictTransportSecurity) {
	age := preloadAge
	if text := s.GetMaxAge(); text != "" {
		var err error
		if age, err = time.ParseDuration(text); err != nil || age < 0 || age > maxHSTSAge || age%time.Second != 0 {
			c.fail("strict_transport_security.max_age", text, `is no duration of whole seconds such as "8760h", up to "17520h"`)
			return
		}
	}
	if s.GetPreload() && (!s.GetIncludeSubdomains() || age < preloadAge) {
		c.fail("strict_transport_security.preload", "", `needs include_subdomains, and a max_age of at least "8760h"`)
	}
}
