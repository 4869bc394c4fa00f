package match

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/hostname"
	"gateway.internal/shared/reason"
)

func (p *parser) methods(route *configv1.Route) {
	methods := route.GetMethods()
	field := func(i int) string { return fmt.Sprintf("methods[%d]", i) }
	if m := route.GetMethod(); m != "" {
		if len(methods) > 0 {
			p.fail("method", m, "can't be together with methods: use one of them")
		}
		methods = []string{m}
		field = func(int) string { return "method" }
	}
	star := false
	for i, m := range methods {
		switch {
		case m == "*":
			star = true
		case !isToken(m) || len(m) > 32:
			p.fail(field(i), m, `is no HTTP method: a token of at most 32 characters such as GET, or "*"`)
		default:
			for _, other := range methods[:i] {
				if other == m {
					p.fail(field(i), m, "is there twice")
				}
			}
			p.rule.methods = append(p.rule.methods, m)
			p.rule.connects = p.rule.connects || m == connect
		}
	}
	if star {
		p.rule.methods = nil
	}
}

// schemeBit is a scheme in Rule.schemes; 0: it is none.
func schemeBit(scheme string) uint8 {
	switch scheme {
	case "http":
		return 1
	case "https":
		return 2
	}
	return 0
}

// listener reads what has to be true of where the request came in.
func (p *parser) listener(route *configv1.Route) {
	for i, s := range route.GetSchemes() {
		bit := schemeBit(s)
		switch {
		case bit == 0:
			p.fail(fmt.Sprintf("schemes[%d]", i), s, `has to be "http" or "https"`)
		case p.rule.schemes&bit != 0:
			p.fail(fmt.Sprintf("schemes[%d]", i), s, "is there twice")
		}
		p.rule.schemes |= bit
	}
	if p.rule.schemes == 3 {
		p.rule.schemes = 0
	}
	if n := len(route.GetPorts()); n > MaxPorts {
		p.fail("ports", "", "has %d entries; %d are allowed", n, MaxPorts)
		return
	}
	for i, n := range route.GetPorts() {
		switch {
		case n < 1 || n > 65535:
			p.fail(fmt.Sprintf("ports[%d]", i), fmt.Sprint(n), "has to be from 1 to 65535")
		case slices.Contains(p.rule.ports, uint16(n)):
			p.fail(fmt.Sprintf("ports[%d]", i), fmt.Sprint(n), "is there twice")
		}
		p.rule.ports = append(p.rule.ports, uint16(n))
	}
}

// redirect keeps requests out that a redirect would lead to where they came from.
func (p *parser) redirect(route *configv1.Route) {
	if route.GetRedirect() != nil {
		d := NewRedirect(route.GetRedirect())
		switch bit := schemeBit(d.scheme); {
		case !d.schemeAlone() || bit == 0:
			p.rule.redirect = d
		case p.rule.schemes == bit:
			p.fail("redirect.scheme", d.scheme, "changes nothing: the route's schemes are the same; they have to be the other")
		default:
			p.rule.schemes = 3 - bit
		}
	}
	p.rule.narrow = p.rule.schemes != 0 || len(p.rule.ports) > 0 || p.rule.redirect != nil
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

func (p *parser) hosts(hosts []string) {
	for i, h := range hosts {
		host, err := hostname.Parse(h)
		switch {
		case err != nil:
			p.fail(fmt.Sprintf("hosts[%d]", i), h, "%s", err)
			continue
		case slices.Contains(p.rule.hosts, host):
			p.fail(fmt.Sprintf("hosts[%d]", i), h, "is there twice")
		}
		p.rule.hosts = append(p.rule.hosts, host)
	}
}

func (p *parser) header(field string, h *configv1.HeaderMatch) valueMatch {
	if !isToken(h.GetName()) {
		p.fail(field+".name", h.GetName(), "is no header field name")
	}
	m := valueMatch{name: h.GetName()}
	switch v := h.GetMatch().(type) {
	case *configv1.HeaderMatch_Exact:
		m.exact, m.isExact = v.Exact, true
	case *configv1.HeaderMatch_Regex:
		m.regex = p.valueRegex(field+".regex", v.Regex)
	case *configv1.HeaderMatch_Present:
		m.absent = !v.Present
	}
	return m
}

func (p *parser) cookie(field string, c *configv1.CookieMatch) valueMatch {
	if !isToken(c.GetName()) {
		p.fail(field+".name", c.GetName(), "is no cookie name")
	}
	m := valueMatch{name: c.GetName()}
	switch v := c.GetMatch().(type) {
	case *configv1.CookieMatch_Exact:
		m.exact, m.isExact = v.Exact, true
	case *configv1.CookieMatch_Regex:
		m.regex = p.valueRegex(field+".regex", v.Regex)
	case *configv1.CookieMatch_Present:
		m.absent = !v.Present
	}
	return m
}

func (p *parser) queryParam(i int, q *configv1.QueryMatch) {
	field := fmt.Sprintf("query[%d]", i)
	if q.GetName() == "" {
		p.fail(field+".name", "", "is required")
	}
	m := valueMatch{name: q.GetName()}
	switch v := q.GetMatch().(type) {
	case *configv1.QueryMatch_Exact:
		m.exact, m.isExact = v.Exact, true
	case *configv1.QueryMatch_Regex:
		m.regex = p.valueRegex(field+".regex", v.Regex)
	case *configv1.QueryMatch_Present:
		m.absent = !v.Present
	}
	p.rule.query = append(p.rule.query, m)
}

func (p *parser) valueRegex(field, expr string) *regexp.Regexp {
	re, err := compileAnchored(expr)
	if err != nil {
		p.fail(field, expr, "is no RE2 regular expression: %s", reason.Of(err))
	}
	return re
}
