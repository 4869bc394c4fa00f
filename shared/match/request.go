package match

import (
	"net/url"
	"slices"
	"strings"

	"gateway.internal/shared/hostname"
)

// Request is what rules look at.
type Request struct {
	// Method is the method, case kept.
	Method string
	// Host is the authority; a port and a trailing dot are ignored.
	Host string
	// Scheme is "http" or "https": the client's.
	Scheme string
	// Port is the node's, that the connection came in at; 0: none.
	Port uint16
	// Path is the path, normalised by the caller.
	Path string
	// RawQuery is the query without "?"; it is decoded only for rules that look at it.
	RawQuery string
	// Header has the header fields. nil: no field is there.
	Header HeaderSource
}

// HeaderSource gives the values of header fields, by name without case.
type HeaderSource interface {
	// Lookup returns the first value of a field.
	Lookup(name string) (value string, ok bool)
	// LookupFrom returns the first value of a field at or behind a place among all fields, of which 0 is the first, and
	// the place behind it.
	LookupFrom(place int, name string) (value string, next int, ok bool)
}

// Params are the path parameters of the last match. The zero value is ready; it may be used again and again.
type Params struct {
	rule   *Rule
	values [MaxParams]string
	n      int
	prefix int
	host   hostname.Buffer // scratch
	fold   []byte          // scratch: the path in lower case
}

// Reset forgets the match.
func (p *Params) Reset() {
	if p.n > 0 {
		clear(p.values[:p.n])
	}
	p.rule, p.n, p.prefix = nil, 0, 0
}

// Len returns the number of parameters.
func (p *Params) Len() int { return p.n }

// Get returns a parameter's value, as it stood in the path.
func (p *Params) Get(name string) (string, bool) {
	if p.rule == nil {
		return "", false
	}
	for i, n := range p.rule.params {
		if n == name && i < p.n {
			return p.values[i], true
		}
	}
	return "", false
}

// PrefixLength returns how many bytes of the path the part before "/*" of a prefix rule covered; 0 for other rules.
func (p *Params) PrefixLength() int { return p.prefix }

// matches tests everything but path and host.
func (r *Rule) matches(q *Request) bool {
	if !r.takes(q.Method) || r.narrow && !r.cameIn(q) {
		return false
	}
	return r.matchesFields(q)
}

// looksAtFields reports whether the rule has predicates on header fields or the query.
func (r *Rule) looksAtFields() bool { return len(r.headers)+len(r.cookies)+len(r.query) > 0 }

// matchesFields tests header fields and the query.
func (r *Rule) matchesFields(q *Request) bool {
	for i := range r.headers {
		if !r.headers[i].matchesHeader(q) {
			return false
		}
	}
	for i := range r.cookies {
		if !r.cookies[i].matchesCookie(q) {
			return false
		}
	}
	for i := range r.query {
		if !r.query[i].matchesQuery(q) {
			return false
		}
	}
	return true
}

// cameIn tests what is known of the connection, and whether a redirect would change anything.
func (r *Rule) cameIn(q *Request) bool {
	return (r.schemes == 0 || r.schemes&schemeBit(q.Scheme) != 0) &&
		(len(r.ports) == 0 || slices.Contains(r.ports, q.Port)) &&
		(r.redirect == nil || !r.redirect.skips(q))
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

func (m *valueMatch) matchesHeader(q *Request) bool {
	var value string
	ok := false
	if q.Header != nil {
		value, ok = q.Header.Lookup(m.name)
	}
	return m.test(value, ok)
}

func (m *valueMatch) matchesQuery(q *Request) bool {
	value, ok := queryValue(q.RawQuery, m.name)
	return m.test(value, ok)
}

func (m *valueMatch) test(value string, there bool) bool {
	switch {
	case m.absent:
		return !there
	case !there:
		return false
	case m.isExact:
		return value == m.exact
	case m.regex != nil:
		return m.regex.MatchString(value)
	}
	return true
}

// queryValue finds the first parameter of a name and decodes it. Only a query with escapes in it allocates.
func queryValue(raw, name string) (string, bool) {
	for raw != "" {
		pair := raw
		if i := strings.IndexByte(raw, '&'); i >= 0 {
			pair, raw = raw[:i], raw[i+1:]
		} else {
			raw = ""
		}
		key, value, _ := strings.Cut(pair, "=")
		if unescape(key) == name {
			return unescape(value), pair != ""
		}
	}
	return "", false
}

func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}
