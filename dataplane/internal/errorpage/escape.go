package errorpage

import "unicode/utf8"

const replacement = "\uFFFD"

// appendPlain appends a value to plain text: control characters are "?".
func appendPlain(b []byte, value string) []byte {
	return appendRunes(b, value, func(b []byte, r rune) []byte {
		if r < 0x20 || r == 0x7f {
			return append(b, '?')
		}
		return utf8.AppendRune(b, r)
	})
}

// appendJSON appends a value to the inside of a JSON string (RFC 8259 section 7). What would end a script in HTML is
// escaped too.
func appendJSON(b []byte, value string) []byte {
	const digits = "0123456789abcdef"
	return appendRunes(b, value, func(b []byte, r rune) []byte {
		switch {
		case r == '"' || r == '\\':
			return append(b, '\\', byte(r))
		case r < 0x20 || r == 0x7f || r == '<' || r == '>' || r == '&' || r == 0x2028 || r == 0x2029:
			return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
		}
		return utf8.AppendRune(b, r)
	})
}

// appendMarkup appends a value to text, or to the inside of a quoted attribute, of HTML or XML.
func appendMarkup(b []byte, value string) []byte {
	return appendRunes(b, value, func(b []byte, r rune) []byte {
		switch {
		case r == '&':
			return append(b, "&amp;"...)
		case r == '<':
			return append(b, "&lt;"...)
		case r == '>':
			return append(b, "&gt;"...)
		case r == '"':
			return append(b, "&#34;"...)
		case r == '\'':
			return append(b, "&#39;"...)
		case r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0xfffe || r == 0xffff:
			return append(b, replacement...)
		}
		return utf8.AppendRune(b, r)
	})
}

// appendRunes appends each character of a value by one; octets that are no UTF-8 are U+FFFD.
func appendRunes(b []byte, value string, one func(b []byte, r rune) []byte) []byte {
	for _, r := range value {
		b = one(b, r)
	}
	return b
}
