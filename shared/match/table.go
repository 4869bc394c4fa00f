package match

import (
	"maps"
	"slices"
	"strings"

	"gateway.internal/shared/hostname"
)

// Table is an immutable set of rules. It is safe for concurrent use, and its methods do not allocate where they say so.
type Table struct {
	rules map[string]*Rule // by ID
	plain paths
	fold  paths // of rules that ignore case
	folds bool  // there are such rules
	hosts int   // rules that look at the host
}

type node struct {
	owner    *builder // who may change the node in place
	literals map[string]*node
	param    *node
	here     *bucket // Parameter rules that end here
	below    *bucket // Prefix rules that start here
	top      *Rule   // the best rule in and below this node
	stale    bool    // top is not there any more; while a builder is at work
}

// Compile makes a table of rules. Rules without an ID can't be removed later; of two with the same ID the later one
// stays.
func Compile(rules []*Rule) *Table {
	return (&Table{}).With(nil, rules)
}

// Len returns the number of rules.
func (t *Table) Len() int { return len(t.rules) }

// ByID returns a rule, or nil.
func (t *Table) ByID(id string) *Rule { return t.rules[id] }

// All returns the rules, best first.
func (t *Table) All() []*Rule {
	return slices.SortedFunc(maps.Values(t.rules), Compare)
}

// With returns a table without the rules of these IDs and with the added ones (which replace those of the same ID).
// What does not change is shared.
func (t *Table) With(remove []string, add []*Rule) *Table {
	b := &builder{}
	next := &Table{rules: maps.Clone(t.rules), plain: t.plain, fold: t.fold, hosts: t.hosts}
	if next.rules == nil {
		next.rules = make(map[string]*Rule, len(add))
	}
	b.table = next
	for _, id := range remove {
		b.remove(id)
	}
	for _, r := range add {
		b.remove(r.ID)
		b.insert(r)
	}
	b.finish()
	return next
}

// Match returns the best rule that matches, or nil, and puts the path's parameters into p. It does not allocate, but
// for regexes with groups, for escaped queries that a rule looks at, and once for the longest path whose case is
// ignored.
func (t *Table) Match(q *Request, p *Params) *Rule {
	m := matcher{q: q, p: p, key: q.Path}
	if t.hosts > 0 {
		m.host = hostname.Key(&p.host, q.Host)
	}
	t.plain.match(&m)
	if t.folds {
		m.key = p.lower(q.Path)
		t.fold.match(&m)
	}
	if m.best != nil && m.best.regex != nil && len(m.best.params) > 0 {
		m.regexParams()
	}
	return m.best
}

type matcher struct {
	q      *Request
	p      *Params
	key    string // the path as the rules that are tried have it
	best   *Rule
	host   []byte
	values [MaxParams]string
}

// try looks for a better rule in a bucket whose pattern captured params values.
func (m *matcher) try(b *bucket, params int) bool {
	if m.best != nil && Compare(m.best, b.top) < 0 {
		return false
	}
	found := m.tryList(b.any, params)
	if len(m.host) > 0 {
		if b.exact != nil {
			found = m.tryList(b.exact[hostname.Pattern(m.host)], params) || found
		}
		if b.wild != nil {
			for i := hostname.NextWildcard(m.host, 0); i > 0; i = hostname.NextWildcard(m.host, i) {
				found = m.tryList(b.wild[hostname.Pattern(m.host[i:])], params) || found
			}
		}
	}
	return found
}

func (m *matcher) tryList(list []*Rule, params int) bool {
	for _, r := range list {
		if m.best != nil && Compare(m.best, r) <= 0 {
			return false
		}
		if r.regex != nil && !r.regex.MatchString(m.q.Path) {
			continue
		}
		if r.matches(m.q) {
			m.best = r
			m.p.rule, m.p.prefix = r, 0
			m.p.n = params
			copy(m.p.values[:params], m.values[:params])
			return true
		}
	}
	return false
}

// walk visits a node whose pattern covers path[:at]; path[at:] is empty or starts with "/".
func (m *matcher) walk(n *node, at, params int) {
	for {
		if m.best != nil && Compare(m.best, n.top) < 0 {
			return
		}
		path := m.key
		if n.below != nil && m.try(n.below, params) {
			m.p.prefix = at
		}
		if at == len(path) {
			if n.here != nil {
				m.try(n.here, params)
			}
			return
		}
		end := at + 1
		for end < len(path) && path[end] != '/' {
			end++
		}
		seg := path[at+1 : end]
		var next *node
		if n.literals != nil {
			next = n.literals[seg]
		}
		if n.param != nil && seg != "" && params < MaxParams {
			if next != nil {
				m.walk(next, end, params)
			}
			m.values[params] = m.q.Path[at+1 : end]
			next, params = n.param, params+1
		}
		if next == nil {
			return
		}
		n, at = next, end
	}
}

// regexParams reads the named groups of the best rule.
func (m *matcher) regexParams() {
	found := m.best.regex.FindStringSubmatch(m.q.Path)
	m.p.n = 0
	for i, name := range m.best.regex.SubexpNames() {
		if i > 0 && name != "" {
			m.p.values[m.p.n] = found[i]
			m.p.n++
		}
	}
}

// MatchAll returns every rule that could answer, best first. What is empty in q does not exclude a rule.
func (t *Table) MatchAll(q *Request) []*Rule {
	var all []*Rule
	var buf hostname.Buffer
	host := string(hostname.Key(&buf, q.Host))
	for _, r := range t.rules {
		if (q.Path == "" || r.matchesPath(q.Path)) && (q.Host == "" || r.matchesHost(host)) &&
			(q.Method == "" || r.takes(q.Method)) && (q.Scheme == "" || r.schemes == 0 || r.schemes&schemeBit(q.Scheme) != 0) &&
			(q.Port == 0 || len(r.ports) == 0 || slices.Contains(r.ports, q.Port)) {
			if q.Header != nil && !r.matchesFields(q) {
				continue
			}
			all = append(all, r)
		}
	}
	slices.SortFunc(all, Compare)
	return all
}

// matchesPath tests the path alone, segment by segment.
func (r *Rule) matchesPath(path string) bool {
	if r.fold && r.form != Regex {
		path = lowerASCII(path)
	}
	switch r.form {
	case Exact:
		return path == r.path
	case Regex:
		return r.regex.MatchString(path)
	}
	for _, s := range r.segments {
		if path == "" {
			return false
		}
		end := strings.IndexByte(path[1:], '/') + 1
		if end == 0 {
			end = len(path)
		}
		if seg := path[1:end]; s.param && seg == "" || !s.param && seg != s.literal {
			return false
		}
		path = path[end:]
	}
	return path == "" || r.form == Prefix
}

// matchesHost tests a host in key form.
func (r *Rule) matchesHost(host string) bool {
	if len(r.hosts) == 0 {
		return true
	}
	return slices.ContainsFunc(r.hosts, func(h hostname.Pattern) bool { return h.Matches(host) })
}
