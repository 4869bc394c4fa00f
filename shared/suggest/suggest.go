// Package suggest finds the name that somebody probably meant.
package suggest

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Nearest returns the known name that is most like an unknown one, or "": by the number of letters that are wrong,
// missing, too many or the wrong way round, up to a third of them and one, or else one that begins with the unknown.
// It looks at 20,000 names at the most.
func Nearest(name string, known func(yield func(string) bool)) string {
	best, bestDistance := "", len(name)/3+1
	longer := ""
	scanned := 0
	for k := range known {
		if scanned++; scanned > 20_000 {
			break
		}
		if len(name) >= 4 && strings.HasPrefix(k, name) && (longer == "" || len(k) < len(longer) || len(k) == len(longer) &&
			k < longer) {
			longer = k
		}
		if d := len(k) - len(name); d > bestDistance || -d > bestDistance {
			continue
		}
		if d := editDistance(name, k, bestDistance); d < bestDistance || d == bestDistance && (best == "" || k < best) {
			best, bestDistance = k, d
		}
	}
	if longer != "" && (best == "" || bestDistance > 2) {
		return longer
	}
	return best
}

// Hint is what follows the news that a name is unknown: which one was probably meant, or nothing.
func Hint(name string, known func(yield func(string) bool)) string {
	if near := Nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// Clause is Hint where there are few names: without one that was probably meant it lists all.
func Clause(name string, known []string) string {
	if hint := Hint(name, slices.Values(known)); hint != "" {
		return hint
	}
	return "; there are " + strings.Join(known, ", ")
}

// editDistance is the number of letters that are wrong, missing, too many, or the wrong way round (optimal string
// alignment), or limit+1 when it is above limit.
func editDistance(a, b string, limit int) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	lowAbove := 0
	for i := range len(a) {
		before, above, row = above, row, before
		row[0] = i + 1
		low := row[0]
		for j := range len(b) {
			cost := above[j]
			if a[i] != b[j] {
				cost = min(cost, row[j], above[j+1]) + 1
			}
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				cost = min(cost, before[j-1]+1)
			}
			row[j+1] = cost
			low = min(low, cost)
		}
		if low > limit && lowAbove >= limit { // two the wrong way round cost one for both of their rows
			return limit + 1
		}
		lowAbove = low
	}
	return row[len(b)]
}

// Fields returns the names of a message's fields and of those of the messages in it, each once: whoever is told of an
// unknown field is not always told where.
func Fields(m proto.Message) []string {
	var names []string
	seen := map[protoreflect.FullName]bool{}
	var walk func(d protoreflect.MessageDescriptor)
	walk = func(d protoreflect.MessageDescriptor) {
		if seen[d.FullName()] || d.FullName().Parent() == "google.protobuf" {
			return
		}
		seen[d.FullName()] = true
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			if name := string(f.Name()); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		for i := range d.Fields().Len() {
			if inner := d.Fields().Get(i).Message(); inner != nil {
				walk(inner)
			}
		}
	}
	walk(m.ProtoReflect().Descriptor())
	return names
}
