// Package validation checks requests against JSON Schemas (draft 2020-12) and against documents of OpenAPI 3.1.
// What is
// checked is bounded by itself: how deep and how many values a body has, which numbers, how often a schema looks at a
// value. It fetches nothing, and it knows no exchanges.
package validation

import (
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Violation is one thing that is wrong with a request.
type Violation struct {
	// In is where: "body", "path", "query", "header" or "cookie".
	In string
	// Name is the parameter's; empty: it is the body.
	Name string
	// Pointer leads to the value within the body or the parameter (RFC 6901); empty: it is the whole of it.
	Pointer string
	// Detail says what is wrong, at most 200 bytes.
	Detail string
}

const (
	// MaxViolations is the most that are told of a request.
	MaxViolations = 20
	maxDetail     = 200
	maxPointer    = 200
)

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-3], "") + "..."
}

// check adds what is wrong with a value to a list, which is at its end when it has MaxViolations.
func check(list []Violation, s *jsonschema.Schema, value any, in, name string) []Violation {
	err := s.Validate(value)
	if err == nil {
		return list
	}
	wrong, ok := err.(*jsonschema.ValidationError)
	if !ok {
		return append(list, Violation{In: in, Name: name, Detail: cut(err.Error(), maxDetail)})
	}
	before := len(list)
	list = leaves(list, wrong, in, name, message.NewPrinter(language.English))
	slices.SortStableFunc(list[before:], func(a, b Violation) int { return strings.Compare(a.Pointer, b.Pointer) })
	return list
}

// leaves adds those errors that others only sum up.
func leaves(list []Violation, e *jsonschema.ValidationError, in, name string, p *message.Printer) []Violation {
	if len(list) >= MaxViolations {
		return list
	}
	if len(e.Causes) == 0 {
		return append(list, Violation{in, name, pointer(e.InstanceLocation), cut(e.ErrorKind.LocalizedString(p), maxDetail)})
	}
	for _, c := range e.Causes {
		list = leaves(list, c, in, name, p)
	}
	return list
}

var escapeToken = strings.NewReplacer("~", "~0", "/", "~1")

func pointer(tokens []string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteByte('/')
		b.WriteString(escapeToken.Replace(t))
		if b.Len() > maxPointer {
			break
		}
	}
	return cut(b.String(), maxPointer)
}
