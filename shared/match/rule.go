// Package match finds the route of a request: paths of four forms, hosts, methods, header fields and query parameters, by one
// total order. Rules are parsed once into values that can't be wrong; a Table of them is immutable, answers without
// allocating, and another one that differs a little is derived from it at the cost of the difference. The control plane
// uses the same tables to find routes that can never match. It knows no sockets and no configuration but a route's own.
package match

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/hostname"
)

// Form is the form of a path pattern, in the order of precedence.
type Form uint8

const (
	// Exact is "/a/b".
	Exact Form = iota
	// Parameter is "/a/{b}/c".
	Parameter
	// Prefix is "/a/*", which may have parameters before the "*".
	Prefix
	// Regex is "~" and an RE2 regular expression for the whole path.
	Regex
)

const (
	// MaxSegments is the most segments that a pattern may have.
	MaxSegments = 64
	// MaxParams is the most parameters that a pattern may have.
	MaxParams = 16
	// MaxPathLength is the longest pattern in bytes.
	MaxPathLength = 2048
)

// Rule is one route's compiled predicates. It is immutable but for Value, which is to be set before the rule is compiled into
// a Table.
type Rule struct {
	// ID identifies the rule in a table.
	ID string
	// Name is the last but one criterion of the order.
	Name string
	// Value is the caller's.
	Value any

	form     Form
	path     string    // Exact: the path
	segments []segment // Parameter and Prefix; for Regex the literal segments it starts with
	params   []string
	regex    *regexp.Regexp

	methods  []string // empty: any but CONNECT
	connects bool     // CONNECT is named, perhaps beside "*"
	hosts    []hostname.Pattern
	headers  []valueMatch
	query    []valueMatch

	// The order, most significant first; smaller is better.
	rank  uint64 // priority, form, number of segments
	shape uint64 // a bit for each parameter, leftmost segment in the highest
	less  uint32 // predicates, inverted
	since int64  // created_at in nanoseconds
}

type segment struct {
	literal string
	param   bool
}

type valueMatch struct {
	name    string
	exact   string
	regex   *regexp.Regexp
	isExact bool
	absent  bool
}

// FieldError is one thing that is wrong with a route.
type FieldError struct {
	// Field is such as "hosts[1]".
	Field string
	// Value is the offending value.
	Value string
	// Message says what is wrong and what would be right.
	Message string
}

// Form returns the form of the rule's path.
func (r *Rule) Form() Form { return r.form }

// Hosts returns the hosts that the rule is for; none: any.
func (r *Rule) Hosts() []hostname.Pattern { return r.hosts }

// WithValue returns a copy of the rule with another value.
func (r *Rule) WithValue(v any) *Rule {
	other := *r
	other.Value = v
	return &other
}

// ParamNames returns the names of the path's parameters in order.
func (r *Rule) ParamNames() []string { return r.params }

// Parse compiles a route's predicates and reports everything that is wrong with them. A rule whose errors are empty can be
// part of any table.
func Parse(route *configv1.Route) (*Rule, []FieldError) {
	p := parser{rule: &Rule{ID: route.GetId(), Name: route.GetName()}}
	p.path(route.GetPath())
	p.methods(route)
	p.hosts(route.GetHosts())
	for i, h := range route.GetHeaders() {
		p.header(i, h)
	}
	for i, q := range route.GetQuery() {
		p.queryParam(i, q)
	}
	priority := route.GetPriority()
	if priority < -1_000_000 || priority > 1_000_000 {
		p.fail("priority", fmt.Sprint(priority), "has to be from -1000000 to 1000000")
	}
	p.order(priority)
	if t := route.GetCreatedAt(); t != nil {
		p.rule.since = t.AsTime().UnixNano()
	}
	return p.rule, p.errs
}

type parser struct {
	rule *Rule
	errs []FieldError
}

func (p *parser) fail(field, value, format string, args ...any) {
	p.errs = append(p.errs, FieldError{field, value, fmt.Sprintf(format, args...)})
}

func (p *parser) path(path string) {
	switch {
	case path == "":
		p.fail("path", path, `is required: "/exact", "/prefix/*", "/users/{id}" or "~regex"`)
	case len(path) > MaxPathLength:
		p.fail("path", path[:40]+"...", "is longer than %d bytes", MaxPathLength)
	case path[0] == '~':
		p.regexPath(path[1:])
	case path[0] != '/':
		p.fail("path", path, `has to start with "/" or "~"`)
	default:
		p.plainPath(path)
	}
}

func (p *parser) regexPath(expr string) {
	p.rule.form = Regex
	re, err := compileWhole(expr)
	if err != nil {
		p.fail("path", "~"+expr, "is no RE2 regular expression: %s", err)
		return
	}
	p.rule.regex = re
	for _, name := range re.SubexpNames()[1:] {
		if name == "" {
			continue
		}
		if p.addParam(name, "~"+expr) {
			continue
		}
		return
	}
	// The segments that every matching path starts with are its place in the table.
	literal := ""
	if unanchored, err := regexp.Compile(strings.TrimPrefix(expr, "^")); err == nil {
		literal, _ = unanchored.LiteralPrefix()
	}
	if end := strings.LastIndexByte(literal, '/'); end > 0 && literal[0] == '/' {
		for s := range strings.SplitSeq(literal[1:end], "/") {
			if len(p.rule.segments) == MaxSegments {
				break
			}
			p.rule.segments = append(p.rule.segments, segment{literal: s})
		}
	}
}

// compileWhole anchors an expression at both ends without changing what its alternatives mean.
func compileWhole(expr string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(expr); err != nil {
		return nil, err
	}
	expr = strings.TrimPrefix(expr, "^")
	return regexp.Compile(`^(?:` + expr + `)$`)
}

func (p *parser) plainPath(path string) {
	path = plainEscapes(path)
	rest := path[1:]
	prefix := rest == "*" || strings.HasSuffix(rest, "/*")
	if prefix {
		rest = strings.TrimSuffix(strings.TrimSuffix(rest, "*"), "/")
	}
	ok := true
	if !prefix || rest != "" {
		for s := range strings.SplitSeq(rest, "/") {
			ok = p.segment(s, path) && ok
		}
	}
	if len(p.rule.segments) > MaxSegments {
		p.fail("path", path, "has more than %d segments", MaxSegments)
		p.rule.segments = p.rule.segments[:MaxSegments]
	}
	switch {
	case prefix:
		p.rule.form = Prefix
	case len(p.rule.params) > 0:
		p.rule.form = Parameter
	default:
		p.rule.form, p.rule.path = Exact, path
	}
}

func (p *parser) segment(s, path string) bool {
	if strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}") && len(s) > 2 {
		p.rule.segments = append(p.rule.segments, segment{param: true})
		return p.addParam(s[1:len(s)-1], path)
	}
	p.rule.segments = append(p.rule.segments, segment{literal: s})
	switch {
	case s == "." || s == "..":
		p.fail("path", path, "has the segment %q, which requests never have", s)
		return false
	case strings.ContainsAny(s, "{}"):
		p.fail("path", path, "has the segment %q; a parameter is a whole segment such as {id}", s)
		return false
	case strings.Contains(s, "*"):
		p.fail("path", path, `has a "*" that is not the last segment; use a {parameter} for one segment`)
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= 0x20 || c >= 0x7f || strings.IndexByte(`"<>\`+"`?#", c) >= 0 {
			p.fail("path", path, "has the character %q, which a path may only have percent-encoded", c)
			return false
		}
		if s[i] == '%' && (i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2])) {
			p.fail("path", path, `has a "%%" that two hexadecimal digits do not follow`)
			return false
		}
	}
	return true
}

// plainEscapes brings the escapes of a pattern into the form that nodes give those of requests, in which they mean the same (RFC 3986
// section 6.2.2): none for letters, digits and "-._~", and upper case for the others.
func plainEscapes(path string) string {
	if strings.IndexByte(path, '%') < 0 {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
			b.WriteByte(path[i])
			continue
		}
		digits := strings.ToUpper(path[i+1 : i+3])
		n, _ := strconv.ParseUint(digits, 16, 8)
		if c := byte(n); c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteString(digits)
		}
		i += 2
	}
	return b.String()
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func (p *parser) addParam(name, path string) bool {
	for i := range len(name) {
		if c := name[i]; c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			p.fail("path", path, "has the parameter name %q, which is not [A-Za-z_][A-Za-z0-9_]*", name)
			return false
		}
	}
	for _, other := range p.rule.params {
		if other == name {
			p.fail("path", path, "has the parameter %q twice", name)
			return false
		}
	}
	if len(p.rule.params) == MaxParams {
		p.fail("path", path, "has more than %d parameters", MaxParams)
		return false
	}
	p.rule.params = append(p.rule.params, name)
	return true
}

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

func (p *parser) header(i int, h *configv1.HeaderMatch) {
	field := fmt.Sprintf("headers[%d]", i)
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
	p.rule.headers = append(p.rule.headers, m)
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
	re, err := compileWhole(expr)
	if err != nil {
		p.fail(field, expr, "is no RE2 regular expression: %s", err)
	}
	return re
}

func (p *parser) order(priority int32) {
	r := p.rule
	r.rank = uint64(1_000_000-int64(priority))<<32 | uint64(r.form)<<16
	if r.form == Parameter || r.form == Prefix {
		r.rank |= uint64(MaxSegments - len(r.segments))
		for i, s := range r.segments {
			if s.param {
				r.shape |= 1 << (63 - i)
			}
		}
	}
	predicates := len(r.headers) + len(r.query)
	if len(r.hosts) > 0 {
		predicates++
	}
	if len(r.methods) > 0 {
		predicates++
	}
	r.less = ^uint32(0) - uint32(predicates)
}

// Compare says which of two rules goes first where both match: negative when a does. It is the documented total order: priority,
// form, segments, leftmost literal, number of predicates, age, name, id.
func Compare(a, b *Rule) int {
	if a.rank != b.rank {
		return cmp.Compare(a.rank, b.rank)
	}
	return cmp.Or(
		cmp.Compare(a.shape, b.shape),
		cmp.Compare(a.less, b.less),
		cmp.Compare(a.since, b.since),
		cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.ID, b.ID),
	)
}
