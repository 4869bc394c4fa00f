package match

import (
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// MaxPathSetWords is the most words that the sets of PathSets may have: numbers are below 64 times as many.
const MaxPathSetWords = 16

// PathSets finds all patterns of a list that a path has, where a Table finds the best one: rules that are applied to
// what a route took are not alternatives. Patterns are numbered from 0, in bits of words. It is immutable, and safe for
// concurrent use; its methods do not allocate. The nil PathSets has no patterns.
type PathSets struct {
	words int
	plain *setNode
	fold  *setNode // of the same patterns in lower case
}

// setNode is where the patterns that begin with some segments go on.
type setNode struct {
	literals map[string]*setNode
	param    *setNode
	here     []uint64 // patterns that end here; nil: none
	below    []uint64 // "/*"
}

// ParsePath reports what is wrong with a pattern of PathSets: the forms of routes' paths but for regular expressions.
// Empty: nothing.
func ParsePath(pattern string) string {
	p := parser{rule: &Rule{}}
	p.path(pattern)
	switch {
	case len(p.errs) > 0:
		return p.errs[0].Message
	case p.rule.form == Regex:
		return `can't be a regular expression: "/exact", "/prefix/*" or "/users/{id}"`
	}
	return ""
}

// NewPathSets compiles patterns that ParsePath has nothing against. The bits of each are those of its place in numbers,
// which may be the same for several.
func NewPathSets(patterns []string, numbers []int) *PathSets {
	if len(patterns) == 0 {
		return nil
	}
	s := &PathSets{plain: &setNode{}, fold: &setNode{}}
	for _, n := range numbers {
		s.words = max(s.words, n/64+1)
	}
	for i, pattern := range patterns {
		for _, root := range []*setNode{s.plain, s.fold} {
			r, _ := Parse(&configv1.Route{Path: pattern, IgnoreCase: root == s.fold})
			segments := r.segments
			if r.form == Exact {
				segments = nil
				for text := range strings.SplitSeq(r.path[1:], "/") {
					segments = append(segments, segment{literal: text})
				}
			}
			root.insert(segments, r.form == Prefix, numbers[i], s.words)
		}
	}
	return s
}

func (n *setNode) insert(segments []segment, prefix bool, number, words int) {
	for _, s := range segments {
		next := n.param
		if !s.param {
			next = n.literals[s.literal]
		}
		if next == nil {
			next = &setNode{}
			switch {
			case s.param:
				n.param = next
			case n.literals == nil:
				n.literals = map[string]*setNode{s.literal: next}
			default:
				n.literals[s.literal] = next
			}
		}
		n = next
	}
	set := &n.here
	if prefix {
		set = &n.below
	}
	if *set == nil {
		*set = make([]uint64, words)
	}
	(*set)[number/64] |= 1 << (number % 64)
}

// Words returns how many words of bits there are.
func (s *PathSets) Words() int {
	if s == nil {
		return 0
	}
	return s.words
}

// Add sets the bits of all patterns that a path has in a set of at least Words words. The path is as routes see it;
// fold tells that it is in lower case, and that the letters of patterns count as such.
func (s *PathSets) Add(set []uint64, path string, fold bool) {
	switch {
	case s == nil || path != "" && path[0] != '/': // that of a CONNECT is empty
	case fold:
		s.fold.add(set, path, 0)
	default:
		s.plain.add(set, path, 0)
	}
}

// add visits a node whose segments cover path[:at]; path[at:] is empty or starts with "/".
func (n *setNode) add(set []uint64, path string, at int) {
	for {
		for i, word := range n.below {
			set[i] |= word
		}
		if at == len(path) {
			for i, word := range n.here {
				set[i] |= word
			}
			return
		}
		end := at + 1
		for end < len(path) && path[end] != '/' {
			end++
		}
		next := n.literals[path[at+1:end]]
		if n.param != nil && end > at+1 {
			if next != nil {
				next.add(set, path, end)
			}
			next = n.param
		}
		if next == nil {
			return
		}
		n, at = next, end
	}
}

// Folds reports whether the route that was found ignores the case of paths.
func (p *Params) Folds() bool { return p.rule != nil && p.rule.fold }

// Lower returns a path with its ASCII letters in lower case. What it returns is valid until the next call or match.
func (p *Params) Lower(path string) string { return p.lower(path) }
