package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/hostname"
	"gateway.internal/shared/match"
	"gateway.internal/shared/middleware"
)

func (c *checker) route(m *configv1.Route) {
	rule, errs := match.Parse(m)
	for _, e := range errs {
		c.fail(e.Field, e.Value, "%s", e.Message)
	}
	for i, h := range m.GetHosts() {
		m.Hosts[i] = hostname.Normal(h)
	}
	targets := 0
	for _, there := range []bool{
		m.GetServiceId() != "", len(m.GetBackends()) > 0, m.GetRedirect() != nil, m.GetDirectResponse() != nil,
	} {
		if there {
			targets++
		}
	}
	if targets != 1 {
		c.fail("service_id", m.GetServiceId(),
			"exactly one of service_id, backends, redirect and direct_response is required; there are %d", targets)
	}
	c.backends(m.GetBackends())
	c.sticky(m)
	c.priority("request_priority", m.GetRequestPriority())
	c.routeFault(m)
	c.target(m)
	if rw := m.GetRewrite(); rw != nil {
		if m.GetRedirect() != nil || m.GetDirectResponse() != nil {
			c.fail("rewrite", "", "can't be together with redirect or direct_response")
		}
		c.rewrite(rw, rule)
	}
	if r := m.GetRedirect(); r != nil {
		c.redirect(r, rule)
	}
	if mirror := m.GetMirror(); mirror != nil {
		if m.GetRedirect() != nil || m.GetDirectResponse() != nil {
			c.fail("mirror", "", "can't be together with redirect or direct_response: only what goes to a service is mirrored")
		}
		c.mirror(mirror)
	}
	if d := m.GetDirectResponse(); d != nil {
		c.directResponse(d)
	}
}

func (c *checker) routeFault(m *configv1.Route) {
	if m.GetFault() != nil && (m.GetRedirect() != nil || m.GetDirectResponse() != nil) {
		c.fail("fault", "", "can't be together with redirect or direct_response: it is for what goes to a service")
	}
	c.fault(m.GetFault())
}

// maxMirrorBytes is the longest body of a request that can be mirrored.
const maxMirrorBytes = 1 << 20

func (c *checker) mirror(m *configv1.Mirror) {
	if m.GetServiceId() == "" {
		c.fail("mirror.service_id", "", "is required: the service that gets the copies")
	}
	if p := m.GetPercent(); m.Percent != nil && !(p > 0 && p <= 100) {
		c.fail("mirror.percent", strconv.FormatFloat(p, 'g', -1, 64), "has to be above 0, and at most 100")
	}
	if n := m.GetMaxBodyBytes(); n > maxMirrorBytes {
		c.fail("mirror.max_body_bytes", fmt.Sprint(n), "has to be at most %d", maxMirrorBytes)
	}
}

func (c *checker) backends(backends []*configv1.Backend) {
	if len(backends) > maxBackends {
		c.fail("backends", "", "has %d entries; %d are allowed", len(backends), maxBackends)
	}
	total := uint32(0)
	for i, b := range backends {
		field := fmt.Sprintf("backends[%d]", i)
		w := BackendWeight(b)
		c.number(field+".weight", w, 0, maxWeight)
		total += min(w, maxWeight)
		if b.GetServiceId() == "" {
			c.fail(field+".service_id", "", "is required")
		}
		for _, other := range backends[:i] {
			if other.GetServiceId() == b.GetServiceId() {
				c.fail(field+".service_id", b.GetServiceId(), "is there twice")
				break
			}
		}
	}
	percent := c.canaries(backends)
	if len(backends) > 0 && total == 0 && percent < 100 {
		c.fail("backends", "", "have no weight above 0")
	}
}

func (c *checker) rewrite(rw *configv1.Rewrite, rule *match.Rule) {
	switch w := rw.GetPathRewrite().(type) {
	case *configv1.Rewrite_Path:
		c.template("rewrite.path", w.Path, rule)
	case *configv1.Rewrite_Prefix:
		if rule.Form() != match.Prefix {
			c.fail("rewrite.prefix", w.Prefix, `is only for paths that end with "/*"`)
		}
		c.plainPath("rewrite.prefix", w.Prefix)
	case *configv1.Rewrite_Regex:
		if _, err := regexp.Compile(w.Regex.GetPattern()); err != nil || w.Regex.GetPattern() == "" {
			c.fail("rewrite.regex.pattern", w.Regex.GetPattern(), "is no RE2 regular expression")
		}
	case nil:
		if rw.GetHost() == "" {
			c.fail("rewrite", "", "changes nothing: it needs path, prefix, regex or host")
		}
	}
	if h := rw.GetHost(); h != "" && !validAuthority(h) {
		c.fail("rewrite.host", h, `has to be a host with an optional port, or "endpoint" for the chosen endpoint's own`)
	}
	if rw.GetReverse() && (rw.GetPath() != "" || rw.GetRegex() != nil) {
		c.fail("rewrite.reverse", "true", "can't be together with rewrite.path or rewrite.regex, which can't be undone in "+
			"responses: only with prefix and host")
	}
}

func (c *checker) plainPath(field, path string) {
	if path == "" || path[0] != '/' || len(path) > match.MaxPathLength ||
		strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '?' || r == '#' }) {
		c.fail(field, path, `has to start with "/" and may not have spaces, "?" or "#"`)
	}
}

// template checks a path in which "{name}" stands for a parameter.
func (c *checker) template(field, path string, rule *match.Rule) {
	c.plainPath(field, path)
	if _, err := ParseTemplate(path, rule.ParamNames()); err != nil {
		c.fail(field, path, "%s", err)
	}
}

func (c *checker) redirect(r *configv1.Redirect, rule *match.Rule) {
	switch r.GetStatus() {
	case 0, 301, 302, 303, 307, 308:
	default:
		c.fail("redirect.status", fmt.Sprint(r.GetStatus()), "has to be 301, 302, 303, 307 or 308")
	}
	c.oneOf("redirect.scheme", r.GetScheme(), "http", "https")
	if h := r.GetHost(); h != "" && !validAuthority(h) {
		c.fail("redirect.host", h, "has to be a host with an optional port")
	}
	if n := r.GetPort(); n != 0 {
		c.number("redirect.port", n, 1, 65535)
		if strings.Contains(r.GetHost(), ":") {
			c.fail("redirect.port", strconv.FormatUint(uint64(n), 10),
				"can't be together with redirect.host %q, which has a port", r.GetHost())
		}
	}
	if p := r.GetPath(); p != "" {
		c.template("redirect.path", p, rule)
	}
	if r.GetScheme() == "" && r.GetHost() == "" && r.GetPath() == "" && r.GetPort() == 0 && !r.GetStripQuery() {
		c.fail("redirect", "", "changes nothing, so clients would go in circles: it needs scheme, host, port or path")
	}
	if rule.LeadsBack() {
		c.fail("redirect", "", "leads to what the route is for, so clients would go in circles: scheme, host, port or path "+
			"have to be others than those of the requests that it takes")
	}
}

func (c *checker) directResponse(d *configv1.DirectResponse) {
	if s := d.GetStatus(); s != 0 && (s < 200 || s > 599) {
		c.fail("direct_response.status", fmt.Sprint(s), "has to be from 200 to 599")
	}
	if len(d.GetBody()) > maxBodyBytes {
		c.fail("direct_response.body", "", "has %d bytes; %d are allowed", len(d.GetBody()), maxBodyBytes)
	}
	if s := d.GetStatus(); (s == 204 || s == 304) && d.GetBody() != "" {
		c.fail("direct_response.body", "", "has to be empty: a response of status %d has no body", s)
	}
	for _, name := range slices.Sorted(maps.Keys(d.GetHeaders())) {
		if lower := strings.ToLower(name); !middleware.ValidFieldName(name) || slices.Contains([]string{
			"content-length", "transfer-encoding", "connection", "upgrade", "trailer", "te", "keep-alive",
		}, lower) {
			c.fail("direct_response.headers", name, "is no header field name that may be set")
		}
		if !middleware.ValidFieldValue(d.GetHeaders()[name]) {
			c.fail("direct_response.headers."+name, d.GetHeaders()[name], "has control characters, or white space at its ends")
		}
	}
}
