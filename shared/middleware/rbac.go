package middleware

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/match"
	"gateway.internal/shared/method"
)

// The limits of rbac's settings.
const (
	// MaxRbacRules is the most rules that one middleware may have.
	MaxRbacRules = 1000
	// maxRbacEntries is the most entries that a list of a rule may have, and maxRbacPaths the most paths of all rules.
	maxRbacEntries = 256
	maxRbacPaths   = 10_000
	maxRbacText    = 256
)

func rbacType() *Type {
	return &Type{
		Name:      "rbac",
		New:       func() proto.Message { return &middlewarev1.Rbac{} },
		normalise: normaliseRbac,
		Validate:  validateRbac,
	}
}

// normaliseRbac writes registered methods in their own letters: "get" would match no request that means GET.
func normaliseRbac(cfg *structpb.Struct) {
	for _, rule := range cfg.GetFields()["rules"].GetListValue().GetValues() {
		for _, v := range rule.GetStructValue().GetFields()["methods"].GetListValue().GetValues() {
			if s, ok := v.GetKind().(*structpb.Value_StringValue); ok {
				s.StringValue = method.Normal(s.StringValue)
			}
		}
	}
}

func validateRbac(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.Rbac)
	switch n := len(s.GetRules()); {
	case n == 0:
		c.fail("rules", "", `needs at least one rule, such as {groups: [admins], paths: [/admin/*]}`)
	case n > MaxRbacRules:
		c.fail("rules", fmt.Sprint(n), "has more than %d rules", MaxRbacRules)
		return c.errs
	}
	names, paths := map[string]int{}, 0
	for i, r := range s.GetRules() {
		field := fmt.Sprintf("rules[%d].", i)
		if before, twice := names[r.GetName()]; twice && r.GetName() != "" {
			c.fail(field+"name", r.GetName(), "is the name of rules[%d] too", before)
		}
		names[r.GetName()] = i
		c.rbacRule(field, r)
		paths += len(r.GetPaths())
	}
	if paths > maxRbacPaths {
		c.fail("rules", fmt.Sprint(paths), "have more than %d paths together", maxRbacPaths)
	}
	return c.errs
}

func (c *collector) rbacRule(field string, r *middlewarev1.RbacRule) {
	if n := r.GetName(); len(n) > 128 || strings.ContainsFunc(n, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		c.fail(field+"name", n, "has to be at most 128 characters, none of them control characters")
	}
	if r.GetName() == "default" {
		c.fail(field+"name", r.GetName(), "stands for no rule in metrics")
	}
	if e := r.GetEffect(); e != "" && e != "allow" && e != "deny" {
		c.fail(field+"effect", e, `has to be "allow" or "deny"`)
	}
	c.wildcards(field+"groups", r.GetGroups())
	c.wildcards(field+"consumers", r.GetConsumers())
	c.wildcards(field+"scopes", r.GetScopes())
	for i, s := range r.GetScopes() {
		if strings.ContainsAny(s, " \"\\") {
			c.fail(fmt.Sprintf("%sscopes[%d]", field, i), s, "is no scope (RFC 6749 section 3.3): list several one by one")
		}
	}
	if n := len(r.GetMethods()); n > maxRbacEntries {
		c.fail(field+"methods", fmt.Sprint(n), "has more than %d entries", maxRbacEntries)
	}
	for i, m := range r.GetMethods() {
		if m != "*" && (!ValidFieldName(m) || len(m) > 32) {
			c.fail(fmt.Sprintf("%smethods[%d]", field, i), m,
				`is no HTTP method: a token of at most 32 characters such as GET, or "*"`)
		}
	}
	if n := len(r.GetPaths()); n > match.MaxPaths {
		c.fail(field+"paths", fmt.Sprint(n), "has more than %d paths", match.MaxPaths)
		return
	}
	for i, p := range r.GetPaths() {
		if wrong := match.ParsePath(p); wrong != "" {
			c.fail(fmt.Sprintf("%spaths[%d]", field, i), p, "%s", wrong)
		}
	}
}

// wildcards checks names that may end with "*".
func (c *collector) wildcards(field string, names []string) {
	if n := len(names); n > maxRbacEntries {
		c.fail(field, fmt.Sprint(n), "has more than %d entries", maxRbacEntries)
		return
	}
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch {
		case name == "" || len(name) > maxRbacText:
			c.fail(at, name, "has to have 1 to %d characters", maxRbacText)
		case strings.Contains(strings.TrimSuffix(name, "*"), "*"):
			c.fail(at, name, `may have a "*" at its end only, which stands for any rest`)
		}
	}
}
