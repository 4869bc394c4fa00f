package match

import "strings"

// Cookie returns the value of the first cookie of a name (RFC 6265 section 4.2.1) and whether there is one. It is a
// view of the field Cookie, of which a request has one: the codec of HTTP/2 makes one of several.
func Cookie(h HeaderSource, name string) (value string, found bool) {
	if h == nil {
		return "", false
	}
	field, _ := h.Lookup("Cookie")
	for field != "" {
		pair := field
		if i := strings.IndexByte(field, ';'); i >= 0 {
			pair, field = field[:i], field[i+1:]
		} else {
			field = ""
		}
		i := strings.IndexByte(pair, '=')
		if i < 0 || strings.Trim(pair[:i], " \t") != name {
			continue
		}
		value = strings.Trim(pair[i+1:], " \t")
		if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
			value = value[1 : n-1]
		}
		return value, true
	}
	return "", false
}

func (m *valueMatch) matchesCookie(q *Request) bool {
	value, ok := Cookie(q.Header, m.name)
	return m.test(value, ok)
}
