package config

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/hostname"
	"gateway.internal/shared/match"
	"gateway.internal/shared/middleware"
)

// The limits of resources.
const (
	maxNameLength    = 128
	maxLabels        = 64
	maxLabelLength   = 256
	maxEndpoints     = 10_000
	maxBackends      = 64
	maxMiddleware    = 64
	maxGroups        = 256
	maxWeight        = 1000
	maxBodyBytes     = 64 << 10
	maxTimeoutMillis = 3_600_000
)

// checker validates one resource by itself.
type checker struct {
	problems *Problems
	kind     Kind
	name     string
	location string
	written  map[string]string // what a user wrote in references in place of these ids
}

func (c *checker) fail(field, value, format string, args ...any) {
	if name, ok := c.written[value]; ok {
		value = name
	}
	c.problems.add(c.kind, c.name, c.location, field, value, format, args...)
}

// validate checks every resource that is put by itself, and that names are unique.
func (p *planner) validate() {
	for _, s := range p.order {
		if s.after == nil {
			continue
		}
		c := &checker{&p.problems, s.edit.Kind, s.after.GetName(), s.edit.Location, s.written}
		c.common(s.after)
		if e := p.base.ByID(c.kind, c.name); e != nil {
			c.fail("name", c.name, "is the id of %s %q", e.Kind, e.Name())
		}
		if e := p.base.ByName(c.kind, c.name); e != nil && e.ID() != s.after.GetId() {
			if other := p.staged[c.kind][e.ID()]; other == nil || other.after != nil && other.after.GetName() == c.name {
				p.refuse(s.edit, c.name, &Exists{c.kind, c.name})
			}
		}
		switch m := s.after.(type) {
		case *configv1.Policy:
			c.policy(m)
		case *configv1.Certificate:
			c.certificate(m, p.opts.KeysLeftOut)
		case *configv1.Consumer:
			c.consumer(m)
		case *configv1.Middleware:
			_, errs := middleware.Parse(m.GetType(), m.GetConfig())
			for _, e := range errs {
				c.fail(e.Field, e.Value, "%s", e.Message)
			}
			c.number("order", m.GetOrder(), 0, 1_000_000)
		case *configv1.Pipeline:
			c.pipeline(m)
		case *configv1.Service:
			c.service(m)
		case *configv1.Route:
			c.route(m)
		}
	}
}

// ValidName reports whether s can be a resource's name: 1 to 128 of [a-z0-9._-], the first a letter or a digit.
func ValidName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= maxNameLength
}

func (c *checker) common(m Message) {
	if !ValidName(c.name) {
		c.fail("name", c.name, "has to be 1 to %d of a-z, 0-9, \".\", \"_\" and \"-\", the first a letter or a digit", maxNameLength)
	}
	if len(c.name) == len(uuid.Nil.String()) && uuid.Validate(c.name) == nil {
		c.fail("name", c.name, "looks like an id: whoever names a resource by its id would get this one, or the other way round")
	}
	labels := m.GetLabels()
	if len(labels) > maxLabels {
		c.fail("labels", "", "has %d entries; %d are allowed", len(labels), maxLabels)
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if k == "" || len(k) > maxLabelLength || len(labels[k]) > maxLabelLength {
			c.fail("labels."+k, labels[k], "keys have 1 to %d bytes and values up to %[1]d", maxLabelLength)
		}
	}
}

func (c *checker) duration(field, value string, low, high time.Duration) (time.Duration, bool) {
	if value == "" {
		return 0, false
	}
	d, err := ParseDuration(value)
	if err != nil {
		c.fail(field, value, "%s", err)
		return 0, false
	}
	if d < low || d > high {
		c.fail(field, value, "has to be from %s to %s", shortDuration(low), shortDuration(high))
		return 0, false
	}
	return d, true
}

func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func (c *checker) number(field string, n, low, high uint32) {
	if n < low || n > high {
		c.fail(field, strconv.FormatUint(uint64(n), 10), "has to be from %d to %d", low, high)
	}
}

func (c *checker) oneOf(field, value string, valid ...string) {
	if value != "" && !slices.Contains(valid, value) {
		c.fail(field, value, "has to be one of %s", strings.Join(valid, ", "))
	}
}

func (c *checker) policy(m *configv1.Policy) {
	timeout, hasTimeout := c.duration("timeout", m.GetTimeout(), time.Millisecond, 24*time.Hour)
	limit, hasLimit := c.duration("max_timeout", m.GetMaxTimeout(), time.Millisecond, 24*time.Hour)
	if hasTimeout && hasLimit && timeout > limit {
		c.fail("timeout", m.GetTimeout(), "is above max_timeout %s", m.GetMaxTimeout())
	}
	if m.MaxRequestBytes != nil && m.GetMaxRequestBytes() < 0 {
		c.fail("max_request_bytes", strconv.FormatInt(m.GetMaxRequestBytes(), 10), "has to be 0 or more")
	}
	c.duration("stream_idle_timeout", m.GetStreamIdleTimeout(), time.Millisecond, 24*time.Hour)
	c.upgrades(m.GetUpgrades())
	c.errorPages(m)
}

func (c *checker) consumer(m *configv1.Consumer) {
	if len(m.GetGroups()) > maxGroups {
		c.fail("groups", "", "has %d entries; %d are allowed", len(m.GetGroups()), maxGroups)
	}
	for i, g := range m.GetGroups() {
		field := fmt.Sprintf("groups[%d]", i)
		if !ValidName(g) {
			c.fail(field, g, "has to be a name of a-z, 0-9, \".\", \"_\" and \"-\"")
		}
		if slices.Contains(m.GetGroups()[:i], g) {
			c.fail(field, g, "is there twice")
		}
	}
}

func (c *checker) pipeline(m *configv1.Pipeline) {
	switch n := len(m.GetMiddlewareIds()); {
	case n == 0:
		c.fail("middleware_ids", "", "is empty: a pipeline has at least one middleware")
	case n > maxMiddleware:
		c.fail("middleware_ids", "", "has %d entries; %d are allowed", n, maxMiddleware)
	}
	for i, id := range m.GetMiddlewareIds() {
		field := fmt.Sprintf("middleware_ids[%d]", i)
		if id == "" {
			c.fail(field, "", "is empty: name a middleware")
		} else if slices.Contains(m.GetMiddlewareIds()[:i], id) {
			c.fail(field, id, "is there twice")
		}
	}
	c.number("timeout_ms", m.GetTimeoutMs(), 0, maxTimeoutMillis)
}

func (c *checker) service(m *configv1.Service) {
	c.oneOf("protocol", m.GetProtocol(), "http", "https", "h2c", "grpc", "grpcs")
	c.oneOf("load_balancer_type", m.GetLoadBalancerType(), "round_robin", "weighted_round_robin", "least_connections")
	if len(m.GetEndpoints()) > 0 && m.GetDiscovery() != nil {
		c.fail("discovery", "", "can't be together with endpoints: they are either fixed or discovered")
	}
	if len(m.GetEndpoints()) > maxEndpoints {
		c.fail("endpoints", "", "has %d entries; %d are allowed", len(m.GetEndpoints()), maxEndpoints)
	}
	seen, ids := map[string]bool{}, map[string]bool{}
	for i, e := range m.GetEndpoints() {
		field := fmt.Sprintf("endpoints[%d]", i)
		c.endpoint(field, e)
		if id := e.GetId(); id != "" {
			switch {
			case !endpointID.MatchString(id):
				c.fail(field+".id", id, "has to be 1 to 128 characters of [A-Za-z0-9._-]")
			case ids[id]:
				c.fail(field+".id", id, "is there twice: ids are unique among the endpoints of a service")
			}
			ids[id] = true
		}
		key := EndpointKey(e)
		if seen[key] {
			c.fail(field, key, "is there twice")
		}
		seen[key] = true
	}
	if d := m.GetDiscovery(); d != nil {
		if d.GetSource() == nil {
			c.fail("discovery", "", "names no source; there is etcd")
		}
		if s := d.GetEtcd().GetService(); len(s) > 256 || strings.ContainsAny(s, "/\x00") {
			c.fail("discovery.etcd.service", s, `has to be up to 256 bytes without "/"`)
		}
	}
	c.serviceTLS(m)
	if h := m.GetHealthCheckConfig(); h != nil {
		c.healthCheck(h)
		if h.GetType() == "grpc" && !SpeaksHTTP2(m) {
			c.fail("health_check_config.type", h.GetType(), `is for services of protocol "h2c", "grpc", "grpcs", or "https" with tls.http2; this one is %q`, orString(m.GetProtocol(), "http"))
		}
	}
	if p := m.GetConnectionPool(); p != nil {
		c.number("connection_pool.max_idle_connections", p.GetMaxIdleConnections(), 0, 65535)
		c.number("connection_pool.max_connections", p.GetMaxConnections(), 0, 65535)
		c.number("connection_pool.max_pending", p.GetMaxPending(), 0, 65535)
		c.duration("connection_pool.connect_timeout", p.GetConnectTimeout(), time.Millisecond, 5*time.Minute)
		c.duration("connection_pool.idle_timeout", p.GetIdleTimeout(), 100*time.Millisecond, 24*time.Hour)
		c.duration("connection_pool.max_age", p.GetMaxAge(), time.Second, 720*time.Hour)
		c.duration("connection_pool.response_timeout", p.GetResponseTimeout(), time.Millisecond, 24*time.Hour)
	}
}

// serviceTLS checks how connections to a service's endpoints are encrypted.
func (c *checker) serviceTLS(m *configv1.Service) {
	t := m.GetTls()
	if UsesTLS(m.GetProtocol()) && t.GetServerName() == "" && !t.GetInsecureSkipVerify() {
		for i, e := range m.GetEndpoints() {
			if _, isUnix := UnixPath(e.GetHost()); isUnix {
				c.fail("tls.server_name", "", "is required: endpoints[%d] is a Unix socket, which has no host to verify the certificate against", i)
				break
			}
		}
	}
	if t == nil {
		return
	}
	if !UsesTLS(m.GetProtocol()) {
		c.fail("tls", "", `is for the protocols "https" and "grpcs"; this service's is %q`, orString(m.GetProtocol(), "http"))
		return
	}
	if n := t.GetServerName(); n != "" && !ValidHost(n) {
		c.fail("tls.server_name", n, "has to be a DNS name or an IP address, without a port")
	}
	if t.GetCaPem() != "" {
		if err := checkAuthorities(t.GetCaPem()); err != nil {
			c.fail("tls.ca_pem", "", "%s", err)
		}
		if t.GetInsecureSkipVerify() {
			c.fail("tls.insecure_skip_verify", "true", "can't be together with ca_pem: one says that any certificate will do, the other which ones")
		}
	}
	c.oneOf("tls.min_version", t.GetMinVersion(), "1.2", "1.3")
	if t.GetHttp2() && m.GetProtocol() != "https" {
		c.fail("tls.http2", "true", `is for the protocol "https"; this service's, %q, is always spoken over HTTP/2`, m.GetProtocol())
	}
}

// UnixPath returns the path of a host such as "unix:/run/app.sock", and whether it is one.
func UnixPath(host string) (string, bool) { return strings.CutPrefix(host, "unix:") }

// EndpointKey returns "host:port", or "unix:/path", which is what tells the endpoints of a service apart.
func EndpointKey(e *configv1.Endpoint) string {
	host := e.GetHost()
	if _, isUnix := UnixPath(host); isUnix {
		return host
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.FormatUint(uint64(e.GetPort()), 10)
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?$`)

// ValidHost reports whether s is an IP address or a DNS name, without a port.
func ValidHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return len(s) <= 253 && hostName.MatchString(s)
}

func (c *checker) endpoint(field string, e *configv1.Endpoint) {
	if path, isUnix := UnixPath(e.GetHost()); isUnix {
		if !validUnixPath(path) {
			c.fail(field+".host", e.GetHost(), `has to be "unix:" and an absolute path of up to %d bytes`, maxUnixPath)
		}
		if e.GetPort() != 0 {
			c.fail(field+".port", strconv.FormatUint(uint64(e.GetPort()), 10), "has to be absent: a Unix socket has no port")
		}
	} else {
		if !ValidHost(e.GetHost()) {
			c.fail(field+".host", e.GetHost(), `has to be an IP address or a DNS name, without scheme and port, or "unix:/path"`)
		}
		c.number(field+".port", e.GetPort(), 1, 65535)
	}
	c.number(field+".weight", Weight(e), 0, maxWeight)
	if len(e.GetLabels()) > maxLabels {
		c.fail(field+".labels", "", "has %d entries; %d are allowed", len(e.GetLabels()), maxLabels)
	}
}

// maxUnixPath is the longest path that a socket's address has room for on Linux, without its final NUL.
const maxUnixPath = 107

func validUnixPath(path string) bool {
	return strings.HasPrefix(path, "/") && len(path) <= maxUnixPath && !strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func (c *checker) healthCheck(h *configv1.HealthCheckConfig) {
	const at = "health_check_config."
	c.oneOf(at+"type", h.GetType(), "http", "tcp", "grpc")
	if p := h.GetPath(); p != "" && (p[0] != '/' || len(p) > 2048 || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r >= 0x7f })) {
		c.fail(at+"path", p, `has to start with "/" and may not have spaces`)
	}
	interval, ok := c.duration(at+"interval", h.GetInterval(), 100*time.Millisecond, time.Hour)
	if !ok {
		interval = DefaultCheckInterval
	}
	c.duration(at+"timeout", h.GetTimeout(), 10*time.Millisecond, interval)
	c.number(at+"unhealthy_threshold", h.GetUnhealthyThreshold(), 0, 100)
	c.number(at+"healthy_threshold", h.GetHealthyThreshold(), 0, 100)
	for i, st := range h.GetExpectedStatuses() {
		c.number(fmt.Sprintf("%sexpected_statuses[%d]", at, i), st, 100, 599)
	}
	if host := h.GetHost(); host != "" && !validAuthority(host) {
		c.fail(at+"host", host, "has to be a host with an optional port")
	}
	if n := h.GetGrpcService(); len(n) > maxLabelLength || strings.ContainsFunc(n, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		c.fail(at+"grpc_service", n, "has to be up to %d visible ASCII characters", maxLabelLength)
	}
}

// validAuthority reports whether s is host [":" port].
func validAuthority(s string) bool {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Port() > 0
	}
	host, port, hasPort := strings.Cut(s, ":")
	if hasPort {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	return ValidHost(host)
}

func (c *checker) route(m *configv1.Route) {
	rule, errs := match.Parse(m)
	for _, e := range errs {
		c.fail(e.Field, e.Value, "%s", e.Message)
	}
	for i, h := range m.GetHosts() {
		m.Hosts[i] = hostname.Normal(h)
	}
	targets := 0
	for _, there := range []bool{m.GetServiceId() != "", len(m.GetBackends()) > 0, m.GetRedirect() != nil, m.GetDirectResponse() != nil} {
		if there {
			targets++
		}
	}
	if targets != 1 {
		c.fail("service_id", m.GetServiceId(), "exactly one of service_id, backends, redirect and direct_response is required; there are %d", targets)
	}
	c.backends(m.GetBackends())
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
	if d := m.GetDirectResponse(); d != nil {
		c.directResponse(d)
	}
}

func (c *checker) backends(backends []*configv1.Backend) {
	if len(backends) > maxBackends {
		c.fail("backends", "", "has %d entries; %d are allowed", len(backends), maxBackends)
	}
	total := uint32(0)
	for i, b := range backends {
		field := fmt.Sprintf("backends[%d]", i)
		w := uint32(1)
		if b.Weight != nil {
			w = b.GetWeight()
		}
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
	if len(backends) > 0 && total == 0 {
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
		c.fail("rewrite.reverse", "true", "can't be together with rewrite.path or rewrite.regex, which can't be undone in responses: only with prefix and host")
	}
}

func (c *checker) plainPath(field, path string) {
	if path == "" || path[0] != '/' || len(path) > match.MaxPathLength || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '?' || r == '#' }) {
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

// TemplatePart is a literal or, when Param is set, the value of a path parameter.
type TemplatePart struct{ Literal, Param string }

// ParseTemplate takes a path such as "/v2/{id}/x" apart. Every parameter has to be one of known.
func ParseTemplate(path string, known []string) ([]TemplatePart, error) {
	var parts []TemplatePart
	for path != "" {
		i := strings.IndexByte(path, '{')
		if i != 0 {
			if i < 0 {
				i = len(path)
			}
			if strings.IndexByte(path[:i], '}') >= 0 {
				return nil, fmt.Errorf(`has a "}" without "{"`)
			}
			parts = append(parts, TemplatePart{Literal: path[:i]})
			path = path[i:]
			continue
		}
		end := strings.IndexByte(path, '}')
		if end < 0 {
			return nil, fmt.Errorf(`has a "{" without "}"`)
		}
		name := path[1:end]
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("uses {%s}, but the route's path has the parameters [%s]", name, strings.Join(known, " "))
		}
		parts = append(parts, TemplatePart{Param: name})
		path = path[end+1:]
	}
	return parts, nil
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
			c.fail("redirect.port", strconv.FormatUint(uint64(n), 10), "can't be together with redirect.host %q, which has a port", r.GetHost())
		}
	}
	if p := r.GetPath(); p != "" {
		c.template("redirect.path", p, rule)
	}
	if r.GetScheme() == "" && r.GetHost() == "" && r.GetPath() == "" && r.GetPort() == 0 && !r.GetStripQuery() {
		c.fail("redirect", "", "changes nothing, so clients would go in circles: it needs scheme, host, port or path")
	}
	if rule.LeadsBack() {
		c.fail("redirect", "", "leads to what the route is for, so clients would go in circles: scheme, host, port or path have to be others than those of the requests that it takes")
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
		if lower := strings.ToLower(name); !middleware.ValidFieldName(name) || slices.Contains([]string{"content-length", "transfer-encoding", "connection", "upgrade", "trailer", "te", "keep-alive"}, lower) {
			c.fail("direct_response.headers", name, "is no header field name that may be set")
		}
		if !middleware.ValidFieldValue(d.GetHeaders()[name]) {
			c.fail("direct_response.headers."+name, d.GetHeaders()[name], "has control characters, or white space at its ends")
		}
	}
}
