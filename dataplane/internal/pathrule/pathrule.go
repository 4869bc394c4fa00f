// Package pathrule applies rules about paths to what a route has taken: which patterns the path of an exchange has, as
// the route sees it and as its service may read it. It does not know what the rules decide.
package pathrule

import (
	"fmt"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/match"
	"gateway.internal/shared/pathnorm"
)

// Patterns are patterns of paths in the grammar of routes but for regular expressions, each with a number. They are
// immutable and safe for concurrent use; the nil Patterns has none.
type Patterns struct {
	sets *match.PathSets
	fold bool // letters have no case, whatever the route says
}

// Compile returns patterns, whose numbers may be the same for several; nil where there are none. ignoreCase makes case
// of no account; otherwise it is where the route that took the request ignores it.
func Compile(patterns []string, numbers []int, ignoreCase bool) (*Patterns, error) {
	for _, pattern := range patterns {
		if wrong := match.ParsePath(pattern); wrong != "" {
			return nil, fmt.Errorf("the path %q %s", pattern, wrong)
		}
	}
	if len(patterns) == 0 {
		return nil, nil //nolint:nilnil // which is as good as any
	}
	return &Patterns{match.NewPathSets(patterns, numbers), ignoreCase}, nil
}

// Words returns how many words a set of numbers has.
func (p *Patterns) Words() int {
	if p == nil {
		return 0
	}
	return p.sets.Words()
}

// Match finds the patterns that the path has: in every, in each reading of it, and in some, in one at least. Both are
// sets of at least Words words, and empty. What is granted goes by every, and what is refused by some: a service that
// leaves out parameters, or takes %2F for a slash, does not serve by another rule than the one that was applied. Where
// nobody can say which path is meant, readable is false, and every is empty.
func (p *Patterns) Match(x *exchange.Exchange, every, some []uint64) (readable bool) {
	if p == nil {
		return true
	}
	path := x.Request.Path
	p.add(x, every, path)
	copy(some, every)
	other, known := otherReading(x)
	if !known {
		clear(every)
		return false
	}
	if other == path {
		return true
	}
	var second [match.MaxPathSetWords]uint64
	words := second[:p.sets.Words()]
	p.add(x, words, other)
	for i, word := range words {
		every[i] &= word
		some[i] |= word
	}
	return true
}

func (p *Patterns) add(x *exchange.Exchange, set []uint64, path string) {
	fold := p.fold || x.Params.Folds()
	if fold {
		path = x.Params.Lower(path)
	}
	p.sets.Add(set, path, fold)
}

// List is a list of paths that something does not hold for. It is immutable and safe for concurrent use; the nil List
// has none.
type List struct{ paths *match.Paths }

// CompileList returns the list of a setting whose name is field.
func CompileList(field string, paths []string) (*List, error) {
	if len(paths) == 0 {
		return nil, nil //nolint:nilnil // which is as good as any
	}
	list, errs := match.ParsePaths(field, paths)
	if len(errs) > 0 {
		return nil, fmt.Errorf("%s: %q %s", errs[0].Field, errs[0].Value, errs[0].Message)
	}
	return &List{list}, nil
}

// Has reports whether the path of an exchange is of the list in each reading: what a service may take for another path
// is none that was let alone. It does not allocate.
func (l *List) Has(x *exchange.Exchange) bool {
	if l == nil || !l.paths.Has(x.Request.Path) {
		return false
	}
	other, known := otherReading(x)
	return known && (other == x.Request.Path || l.paths.Has(other))
}

// otherReading returns the path as a service may read it that takes all spellings for one; known is false where nobody
// can say which is meant. It is valid until the next call.
func otherReading(x *exchange.Exchange) (path string, known bool) {
	path = x.Request.Path
	if path == "" || path[0] != '/' { // of a CONNECT
		return path, true
	}
	other, memory, refused := pathnorm.Widest().Apply(path, x.Memory[1]) // which is for what is forwarded, later
	x.Memory[1] = memory
	return other, refused == ""
}
