// Package match finds the route of a request: paths of four forms, hosts, methods, header fields and query parameters,
// by one total order. Rules are parsed once into values that can't be wrong; a Table of them is immutable, answers
// without allocating, and another one that differs a little is derived from it at the cost of the difference. The
// control plane uses the same tables to find routes that can never match. It knows no sockets and no configuration but
// a route's own.
package match

import (
	"cmp"
	"fmt"
	"regexp"

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
	// Regex is "~" and an RE2 regular expression for the whole path.
	Regex
	// Prefix is "/a/*", which may have parameters before the "*".
	Prefix
)

const (
	// MaxSegments is the most segments that a pattern may have.
	MaxSegments = 64
	// MaxParams is the most parameters that a pattern may have.
	MaxParams = 16
	// MaxPathLength is the longest pattern in bytes.
	MaxPathLength = 2048
	// MaxPorts is the most ports that a rule may name.
	MaxPorts = 16
)

// Rule is one route's compiled predicates. It is immutable but for Value, which is to be set before the rule is
// compiled into a Table.
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
	spelling string // the path as it was given
	literal  string // Regex: what every matching path begins with
	fold     bool   // the case of the path's letters is ignored: all of the above is in lower case

	methods  []string // empty: any but CONNECT
	connects bool     // CONNECT is named, perhaps beside "*"
	hosts    []hostname.Pattern
	headers  []valueMatch
	cookies  []valueMatch
	query    []valueMatch
	ports    []uint16  // empty: any
	schemes  uint8     // of schemeBit; 0: any
	view     string    // of paths, see ViewOf
	narrow   bool      // ports, schemes or redirect have to be looked at
	redirect *Redirect // nil: none, or one that takes every request

	// The order, most significant first; smaller is better.
	rank  uint64 // priority, form, number of segments
	shape uint64 // a bit for each parameter, leftmost segment in the highest
	less  uint32 // predicates, inverted; the lowest bit is fold
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

// Parse compiles a route's predicates and reports everything that is wrong with them. A rule whose errors are empty can
// be part of any table.
func Parse(route *configv1.Route) (*Rule, []FieldError) {
	p := parser{rule: &Rule{ID: route.GetId(), Name: route.GetName()}}
	p.rule.fold, p.rule.spelling = route.GetIgnoreCase(), route.GetPath()
	p.rule.view = ViewOf(route.GetPathOptions())
	p.path(route.GetPath())
	p.methods(route)
	p.hosts(route.GetHosts())
	p.listener(route)
	p.redirect(route)
	for i, h := range route.GetHeaders() {
		p.rule.headers = append(p.rule.headers, p.header(fmt.Sprintf("headers[%d]", i), h))
	}
	for i, c := range route.GetCookies() {
		p.rule.cookies = append(p.rule.cookies, p.cookie(fmt.Sprintf("cookies[%d]", i), c))
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
	predicates := len(r.headers) + len(r.cookies) + len(r.query)
	if len(r.hosts) > 0 {
		predicates++
	}
	if len(r.methods) > 0 {
		predicates++
	}
	if r.schemes != 0 {
		predicates++
	}
	if len(r.ports) > 0 {
		predicates++
	}
	r.less = (1<<31 - 1 - uint32(predicates)) << 1
	if r.fold {
		r.less |= 1
	}
}

// Methods returns the methods that the rule names; none: any.
func (r *Rule) Methods() []string { return r.methods }

// PathBefore reports whether r goes before o by priority and path alone.
func (r *Rule) PathBefore(o *Rule) bool {
	return r.rank < o.rank || r.rank == o.rank && r.shape < o.shape
}

// Compare says which of two rules goes first where both match: negative when a does. It is the documented total order:
// priority, form, segments, leftmost literal, number of predicates, whether case is looked at, age, name, id.
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
