package middleware

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// The limits of ext_auth's settings.
const (
	maxAuthFields    = 64
	maxAuthTimeout   = time.Minute
	maxAuthTTL       = time.Hour
	maxAuthBodyBytes = 1 << 20
	maxAuthFacts     = 16
)

func extAuthType() *Type {
	return &Type{
		Name:      "ext_auth",
		New:       func() proto.Message { return &middlewarev1.ExtAuth{} },
		Validate:  validateExtAuth,
		Parallel:  true,
		Waits:     WaitsSometimes,
		bodyLimit: "max_body_bytes",
		services:  []string{"service_id"},
		callsServices: func(cfg *structpb.Struct) bool {
			return cfg.GetFields()["protocol"].GetStringValue() == "grpc"
		},
	}
}

func validateExtAuth(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.ExtAuth)
	if s.GetServiceId() == "" {
		c.fail("service_id", "", "is required: the name of the service that decides")
	}
	if p := s.GetPath(); p != "" && (p[0] != '/' || strings.ContainsAny(p, "?# ") || !isASCII(p)) {
		c.fail("path", p, `is no path such as "/check", without a query`)
	}
	c.duration("timeout", s.GetTimeout(), maxAuthTimeout)
	c.fieldNames("request_headers", s.GetRequestHeaders(), false)
	c.fieldNames("response_headers", s.GetResponseHeaders(), false)
	if e := s.GetOnError(); e != "" && e != "deny" && e != "allow" {
		c.fail("on_error", e, `has to be "deny" or "allow"`)
	}
	if n := s.GetMaxBodyBytes(); n > maxAuthBodyBytes {
		c.fail("max_body_bytes", fmt.Sprint(n), "has to be at most %d", maxAuthBodyBytes)
	}
	if cache := s.GetCache(); cache != nil {
		if cache.GetTtl() == "" {
			c.fail("cache.ttl", "", `is required, such as "30s"`)
		}
		c.duration("cache.ttl", cache.GetTtl(), maxAuthTTL)
		c.fieldNames("cache.key", cache.GetKey(), true)
		if s.GetMaxBodyBytes() > 0 {
			c.fail("cache", "", "can't be together with max_body_bytes: an answer about one body says nothing of another")
		}
	}
	c.authProtocol(s)
	c.facts(s.GetFacts())
	if p := s.GetPrincipal(); p != nil {
		for _, f := range []struct{ field, name string }{
			{"principal.consumer", p.GetConsumer()}, {"principal.groups", p.GetGroups()}, {"principal.scopes", p.GetScopes()},
		} {
			if f.name != "" && !ValidFieldName(f.name) {
				c.fail(f.field, f.name, "is no field name")
			}
		}
	}
	return c.errs
}

// authProtocol checks what one protocol alone has.
func (c *collector) authProtocol(s *middlewarev1.ExtAuth) {
	switch p := s.GetProtocol(); p {
	case "", "http":
		if len(s.GetContextExtensions()) > 0 {
			c.fail("context_extensions", "", `are told over gRPC alone: protocol has to be "grpc"`)
		}
	case "grpc":
		if s.GetPath() != "" {
			c.fail("path", s.GetPath(), `can't be together with protocol "grpc", whose method has its own`)
		}
		if s.GetCache() != nil && len(s.GetCache().GetKey()) == 0 && len(s.GetRequestHeaders()) == 0 {
			c.fail("cache.key", "", "is required where the service is told all fields of a request: name what it decides by")
		}
		if n := len(s.GetContextExtensions()); n > maxAuthFields {
			c.fail("context_extensions", fmt.Sprint(n), "has more than %d entries", maxAuthFields)
		}
	default:
		c.fail("protocol", p, `has to be "http" or "grpc"`)
	}
}

// facts checks which fields of an answer become facts.
func (c *collector) facts(facts map[string]string) {
	if len(facts) > maxAuthFacts {
		c.fail("facts", fmt.Sprint(len(facts)), "has more than %d facts", maxAuthFacts)
	}
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		if !factName.MatchString(name) {
			c.fail("facts", name, "is no name of a fact: lower-case letters, digits and _, at most 64")
		} else if !ValidFieldName(facts[name]) {
			c.fail("facts."+name, facts[name], "is no field name")
		}
	}
}

// factName is what facts can be called, so that a variable can name them.
var factName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e })
}

// duration checks one that is given.
func (c *collector) duration(field, text string, most time.Duration) {
	if text == "" {
		return
	}
	if d, err := time.ParseDuration(text); err != nil || d < time.Millisecond || d > most {
		c.fail(field, text, `is no duration such as "500ms", from "1ms" to %q`, most)
	}
}

// fieldNames checks a list of field names; pseudo allows ":method", ":authority", ":path" and ":client" besides.
func (c *collector) fieldNames(field string, names []string, pseudo bool) {
	if len(names) > maxAuthFields {
		c.fail(field, fmt.Sprint(len(names)), "has more than %d names", maxAuthFields)
	}
	for i, name := range names {
		at, lower := fmt.Sprintf("%s[%d]", field, i), strings.ToLower(name)
		switch {
		case pseudo && slices.Contains([]string{":method", ":authority", ":path", ":client"}, name):
		case !ValidFieldName(name):
			c.fail(at, name, "is no field name")
		case slices.Contains(framingFields, lower):
			c.fail(at, name, "belongs to the connection and can't be passed on")
		case slices.Contains(writtenFields, lower) && pseudo:
			c.fail(at, name, `is written by the gateway itself, from what it knows; ":client" stands for the client's address`)
		case slices.Contains(writtenFields, lower):
			c.fail(at, name, "is written by the gateway itself, from what it knows")
		}
	}
}
