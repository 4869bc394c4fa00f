package config

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with one resource, or a warning.
type Problem struct {
	// Kind is 0 when it is no single resource.
	Kind Kind
	// Name is the resource's.
	Name string
	// Field is such as "endpoints[1].port"; empty for the whole resource.
	Field string
	// Value is the offending value, shortened; never a secret.
	Value string
	// Message says what is wrong and what would be right.
	Message string
	// Location is where the resource stands in what was sent, such as "routes[2]".
	Location string
}

// String writes the problem in one line.
func (p Problem) String() string {
	var b strings.Builder
	if p.Kind != 0 {
		fmt.Fprintf(&b, "%s %q: ", p.Kind, p.Name)
	}
	if p.Field != "" {
		b.WriteString(p.Field)
		if p.Value != "" {
			fmt.Fprintf(&b, " %q", p.Value)
		}
		b.WriteByte(' ')
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is everything that is wrong with a configuration.
type Problems []Problem

// Error implements error: all problems, one a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// maxValueLength is how many bytes of an offending value a problem shows.
const maxValueLength = 100

func (ps *Problems) add(k Kind, name, location, field, value, format string, args ...any) {
	if len(value) > maxValueLength {
		value = strings.ToValidUTF8(value[:maxValueLength], "") + "..."
	}
	*ps = append(*ps, Problem{k, name, field, value, fmt.Sprintf(format, args...), location})
}

// VersionConflict is an edit of a resource that somebody else changed meanwhile.
type VersionConflict struct {
	Kind    Kind
	Name    string
	Wanted  uint32
	Current uint32
}

// Error implements error.
func (e *VersionConflict) Error() string {
	return fmt.Sprintf("%s %q is at version %d, not %d: read it again and repeat the change", e.Kind, e.Name, e.Current, e.Wanted)
}

// NotFound is an edit of a resource that is not there.
type NotFound struct {
	Kind Kind
	Ref  string
}

// Error implements error.
func (e *NotFound) Error() string { return fmt.Sprintf("there is no %s %q", e.Kind, e.Ref) }

// Exists is a creation of a resource that is there already.
type Exists struct {
	Kind Kind
	Name string
}

// Error implements error.
func (e *Exists) Error() string { return fmt.Sprintf("there is a %s %q already", e.Kind, e.Name) }

// InUse is a delete of a resource that others refer to.
type InUse struct {
	Kind Kind
	Name string
	By   []string // such as `route "users"`; at most ten
	More int      // how many there are beside these
}

// Error implements error.
func (e *InUse) Error() string {
	by := strings.Join(e.By, ", ")
	if e.More > 0 {
		by += fmt.Sprintf(" and %d more", e.More)
	}
	return fmt.Sprintf("%s %q is used by %s", e.Kind, e.Name, by)
}
