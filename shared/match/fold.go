package match

import (
	"strings"
	"unsafe"
)

// paths finds rules by their paths: one set for the rules that look at case, one, whose keys are in lower case, for
// those that do not.
//
// Exact paths are one map, parameters and prefixes a trie of segments, and regexes a tree of the texts that they begin
// with. A lookup visits only nodes that the path leads to, at most one per pattern prefix, and leaves out every subtree
// whose best rule is worse than what was found.
type paths struct {
	exact map[string]*bucket
	root  *node
	regex *literal
}

// match looks for a better rule by a path in the set's form.
func (s *paths) match(m *matcher) {
	if b := s.exact[m.key]; b != nil {
		m.try(b, 0)
	}
	if s.root != nil {
		m.walk(s.root, 0, 0)
	}
	if s.regex != nil {
		m.regexes(s.regex, m.key)
	}
}

func (s *paths) empty() bool { return len(s.exact) == 0 && s.root == nil && s.regex == nil }

// lower returns a path with its ASCII letters in lower case. What it returns is valid until the next match.
func (p *Params) lower(path string) string {
	i := 0
	for i < len(path) && (path[i] < 'A' || path[i] > 'Z') {
		i++
	}
	if i == len(path) {
		return path
	}
	p.fold = append(p.fold[:0], path...)
	for ; i < len(p.fold); i++ {
		if c := p.fold[i]; c >= 'A' && c <= 'Z' {
			p.fold[i] = c | 0x20
		}
	}
	return unsafe.String(unsafe.SliceData(p.fold), len(p.fold))
}

// lowerASCII leaves everything but ASCII letters alone.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r | 0x20
		}
		return r
	}, s)
}

// caseless reports whether a text has no letters that ignore_case could be about.
func caseless(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; c >= 'a' && c <= 'z' {
			return false
		}
	}
	return true
}
