package exchange

import "strings"

// ListHas reports whether a field's value, which is a list, has an item, compared without case (RFC 9110 section
// 5.6.1). What is between commas within a quoted string counts as an item too.
func ListHas(value, item string) bool {
	for more := true; more; {
		var part string
		part, value, more = strings.Cut(value, ",")
		if EqualFold(strings.Trim(part, " \t"), item) {
			return true
		}
	}
	return false
}
