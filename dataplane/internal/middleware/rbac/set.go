package rbac

import (
	"strings"

	"gateway.internal/shared/match"
	"gateway.internal/shared/middleware"
)

// maxRules is how many rules a set has room for.
const maxRules = 64 * match.MaxPathSetWords

var _ [maxRules - middleware.MaxRbacRules]struct{}

// set is a set of rules.
type set [match.MaxPathSetWords]uint64

func (s *set) add(rule int) { s[rule/64] |= 1 << (rule % 64) }

func (s *set) or(o *set, words int) {
	for i := range words {
		s[i] |= o[i]
	}
}

// table finds the rules that name one of somebody's names.
type table struct {
	without  set // rules that name none
	anybody  set // rules with "*"
	exact    map[string]*set
	prefixes []prefixed
}

type prefixed struct {
	prefix string
	rules  set
}

func (t *table) add(rule int, names []string) {
	if len(names) == 0 {
		t.without.add(rule)
	}
	for _, name := range names {
		prefix, wildcard := strings.CutSuffix(name, "*")
		switch {
		case name == "*":
			t.anybody.add(rule)
		case wildcard:
			t.prefix(prefix).add(rule)
		default:
			if t.exact == nil {
				t.exact = map[string]*set{}
			}
			if t.exact[name] == nil {
				t.exact[name] = &set{}
			}
			t.exact[name].add(rule)
		}
	}
}

func (t *table) prefix(prefix string) *set {
	for i := range t.prefixes {
		if t.prefixes[i].prefix == prefix {
			return &t.prefixes[i].rules
		}
	}
	t.prefixes = append(t.prefixes, prefixed{prefix: prefix})
	return &t.prefixes[len(t.prefixes)-1].rules
}

// find adds the rules that name somebody's name.
func (t *table) find(into *set, name string, words int) {
	if s := t.exact[name]; s != nil {
		into.or(s, words)
	}
	for i := range t.prefixes {
		if p := &t.prefixes[i]; strings.HasPrefix(name, p.prefix) {
			into.or(&p.rules, words)
		}
	}
}

// names are such as a rule needs.
type names []name

type name struct {
	text   string
	prefix bool // it stands for all that begin with it
}

func namesOf(list []string) names {
	var all names
	for _, text := range list {
		prefix, wildcard := strings.CutSuffix(text, "*")
		all = append(all, name{prefix, wildcard})
	}
	return all
}

func (n *name) in(list []string) bool {
	for _, s := range list {
		if s == n.text || n.prefix && strings.HasPrefix(s, n.text) {
			return true
		}
	}
	return false
}

// all reports whether each of the names is one of a list, and any whether one is.
func (n names) all(list []string) bool {
	for i := range n {
		if !n[i].in(list) {
			return false
		}
	}
	return true
}

func (n names) any(list []string) bool {
	for i := range n {
		if n[i].in(list) {
			return true
		}
	}
	return false
}
