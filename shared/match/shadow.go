package match

import (
	"slices"

	"gateway.internal/shared/hostname"
)

// Comparisons is how many pairs of rules a search may still compare. Rules that differ in nothing but header fields or
// the query are all compared with each other, so that a search among many of them has to have an end.
type Comparisons int

// take reports whether one more pair may be compared.
func (n *Comparisons) take() bool {
	*n--
	return *n >= 0
}

// Spent reports whether a search was ended by its limit, so that there may be more than it found.
func (n *Comparisons) Spent() bool { return *n < 0 }

// Shadowed returns a rule of the table that goes before r and answers every request that r could match, so that r is
// never reached; nil when there is none. It never names a rule wrongly. It looks at one other rule at a time and at
// regexes only when they are the same, so that it may miss some: two rules that only together cover r, for example, and
// those beyond the limit of comparisons.
func (t *Table) Shadowed(r *Rule, comparisons *Comparisons) *Rule {
	s := shadow{r: r, comparisons: comparisons}
	s.among(&t.plain)
	s.fold = true
	s.among(&t.fold)
	return s.by
}

// aFew is up to how many rules a look at their paths, for every rule of a table, costs less than searching for what
// shadows it.
const aFew = 16

// Unreachable returns the rules of the table that another one shadows, with that one, as far as one of both is among
// these, which are rules of the table too. It is Shadowed for every rule; where these are few, nearly all others are
// told apart by a look at their paths.
func (t *Table) Unreachable(these map[*Rule]bool, comparisons *Comparisons) map[*Rule]*Rule {
	found := map[*Rule]*Rule{}
	for _, r := range t.rules {
		if !these[r] && len(these) <= aFew && !anyMayShadow(these, r) {
			continue
		}
		if by := t.Shadowed(r, comparisons); by != nil && (these[r] || these[by]) {
			found[r] = by
		}
	}
	return found
}

func anyMayShadow(these map[*Rule]bool, r *Rule) bool {
	for c := range these {
		if c.mayShadow(r) {
			return true
		}
	}
	return false
}

// mayShadow reports false only where r can't shadow o, whatever their other predicates are.
func (r *Rule) mayShadow(o *Rule) bool {
	switch r.form {
	case Exact:
		if o.form != Exact || !r.spells(r.path, o.path) {
			return false
		}
	case Regex:
	default:
		for i := range min(len(r.segments), len(o.segments)) {
			if a, b := &r.segments[i], &o.segments[i]; !a.param && !b.param && !r.spells(a.literal, b.literal) {
				return false
			}
		}
	}
	return Compare(r, o) < 0
}

// spells reports whether a part of r's path stands for the same part of another's.
func (r *Rule) spells(mine, other string) bool {
	return mine == other || r.fold && mine == lowerASCII(other)
}

type shadow struct {
	r           *Rule
	by          *Rule
	comparisons *Comparisons
	fold        bool // the rules that are looked at ignore case
}

// key returns how a part of r's path is spelt by the rules that are looked at; ok is false where they stand for some of
// its spellings only.
func (s *shadow) key(part string) (key string, ok bool) {
	if s.fold {
		return lowerASCII(part), true
	}
	return part, !s.r.fold || caseless(part)
}

// among looks at the rules of one set.
func (s *shadow) among(p *paths) {
	switch s.r.form {
	case Exact:
		if key, ok := s.key(s.r.path); ok {
			s.try(p.exact[key])
			if p.regex != nil {
				p.regex.along(key, s.try)
			}
		}
	case Regex:
		if p.regex != nil && s.fold == s.r.fold {
			p.regex.along(s.r.literal, s.try)
		}
	}
	if p.root != nil {
		s.walk(p.root, s.r.segments)
	}
}

func (s *shadow) walk(n *node, rest []segment) {
	if n == nil || s.by != nil || Compare(s.r, n.top) <= 0 {
		return
	}
	s.try(n.below)
	if len(rest) == 0 {
		if s.r.form == Exact || s.r.form == Parameter {
			s.try(n.here)
		}
		return
	}
	if !rest[0].param {
		if key, ok := s.key(rest[0].literal); ok {
			s.walk(n.literals[key], rest[1:])
		}
	}
	if rest[0].param || rest[0].literal != "" {
		s.walk(n.param, rest[1:])
	}
}

func (s *shadow) try(k *bucket) {
	if k == nil {
		return
	}
	s.tryList(k.any)
	for _, h := range s.r.hosts {
		if !h.Wildcard() {
			s.tryList(k.exact[h])
		}
		for w := range h.Above() {
			s.tryList(k.wild[w])
		}
	}
}

func (s *shadow) tryList(list []*Rule) {
	for _, c := range list {
		if s.by != nil || Compare(c, s.r) >= 0 || !s.comparisons.take() {
			return
		}
		if c.covers(s.r) {
			s.by = c
		}
	}
}

// covers reports whether r, whose path pattern covers o's unless it is a regex, matches whatever o matches.
func (r *Rule) covers(o *Rule) bool {
	if r.view != o.view {
		return false // one may see another path than the other
	}
	if r.regex != nil {
		switch o.form {
		case Exact:
			if !r.regex.MatchString(o.path) || o.fold && !r.fold && !caseless(o.path) {
				return false
			}
		case Regex:
			if r.regex.String() != o.regex.String() {
				return false
			}
		default:
			return false
		}
	}
	if o.connects && !r.connects || !r.coversCameIn(o) {
		return false
	}
	if len(r.methods) > 0 {
		if len(o.methods) == 0 {
			return false
		}
		for _, m := range o.methods {
			if !contains(r.methods, m) {
				return false
			}
		}
	}
	if len(r.hosts) > 0 && (len(o.hosts) == 0 || !r.coversHosts(o)) {
		return false
	}
	return coversValues(r.headers, o.headers) && coversValues(r.cookies, o.cookies) && coversValues(r.query, o.query)
}

// coversCameIn is covers for what cameIn tests.
func (r *Rule) coversCameIn(o *Rule) bool {
	if r.schemes != 0 && r.schemes != o.schemes || r.redirect != nil && !r.redirect.takesAllOf(o) {
		return false
	}
	return len(r.ports) == 0 || len(o.ports) > 0 &&
		!slices.ContainsFunc(o.ports, func(p uint16) bool { return !slices.Contains(r.ports, p) })
}

func (r *Rule) coversHosts(o *Rule) bool {
	for _, h := range o.hosts {
		if !slices.ContainsFunc(r.hosts, func(p hostname.Pattern) bool { return p.Covers(h) }) {
			return false
		}
	}
	return true
}

// coversValues reports whether each of c's predicates is among r's.
func coversValues(c, r []valueMatch) bool {
	for i := range c {
		found := false
		for j := range r {
			found = found || c[i].same(&r[j])
		}
		if !found {
			return false
		}
	}
	return true
}

func (m *valueMatch) same(o *valueMatch) bool {
	if m.name != o.name || m.absent != o.absent || m.isExact != o.isExact || m.exact != o.exact {
		return false
	}
	if m.regex == nil || o.regex == nil {
		return m.regex == o.regex
	}
	return m.regex.String() == o.regex.String()
}
