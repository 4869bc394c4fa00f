package match

import (
	"fmt"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// Fields are predicates on header fields, of which all have to hold. They are immutable; none hold for every request.
type Fields []valueMatch

// ParseFields compiles predicates, and reports everything that is wrong with them. field is where they stand, such as
// "fault.headers".
func ParseFields(field string, headers []*configv1.HeaderMatch) (Fields, []FieldError) {
	p := parser{}
	var f Fields
	for i, h := range headers {
		f = append(f, p.header(fmt.Sprintf("%s[%d]", field, i), h))
	}
	return f, p.errs
}

// Match reports whether all predicates hold.
func (f Fields) Match(h HeaderSource) bool {
	for i := range f {
		if value, there := h.Lookup(f[i].name); !f[i].test(value, there) {
			return false
		}
	}
	return true
}
