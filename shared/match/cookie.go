package match

import "strings"

// Cookie returns the value of the first cookie of a name (RFC 6265 section 4.2.1) and whether there is one. It is a
// view of the field Cookie. A client has one such field over HTTP/1.1 (RFC 6265 section 5.4), but services read the
// cookies of all where there are more, as those of HTTP/2 (RFC 9113 section 8.2.3).
func Cookie(h HeaderSource, name string) (value string, found bool) {
	if h == nil {
		return "", false
	}
	for place := 0; ; {
		field, next, more := h.LookupFrom(place, "Cookie")
		if !more {
			return "", false
		}
		if value, found = cookieIn(field, name); found {
			return value, true
		}
		place = next
	}
}

func cookieIn(field, name string) (value string, found bool) {
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
