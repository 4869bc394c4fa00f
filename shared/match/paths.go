package match

import (
	"fmt"
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// MaxPaths is the most paths that a list may have.
const MaxPaths = 1000

// Paths is a list of paths in the forms that routes have. It is immutable, and safe for concurrent use. The zero value
// has none.
type Paths struct {
	exact map[string]struct{}
	rules []*Rule // of the other forms
}

// ParsePaths reads a list of paths, and reports everything that is wrong with it. field is what the list is called.
func ParsePaths(field string, paths []string) (*Paths, []FieldError) {
	s := &Paths{exact: map[string]struct{}{}}
	if len(paths) > MaxPaths {
		return s, []FieldError{{field, fmt.Sprint(len(paths)), fmt.Sprintf("has more than %d paths", MaxPaths)}}
	}
	var errs []FieldError
	for i, path := range paths {
		rule, wrong := Parse(&configv1.Route{Path: path})
		for _, e := range wrong {
			e.Field = fmt.Sprintf("%s[%d]", field, i)
			errs = append(errs, e)
		}
		switch {
		case len(wrong) > 0:
		case rule.form == Exact:
			s.exact[strings.Clone(rule.path)] = struct{}{}
		default:
			s.rules = append(s.rules, rule)
		}
	}
	return s, errs
}

// Has reports whether one of the paths matches a request's, which is normalised as for routes. It does not allocate.
func (s *Paths) Has(path string) bool {
	if _, is := s.exact[path]; is {
		return true
	}
	for _, r := range s.rules {
		if r.matchesPath(path) {
			return true
		}
	}
	return false
}
