package http2

import (
	"strconv"
	"strings"
	"time"

	"gateway.internal/dataplane/internal/exchange"
)

// The entries of the static table that responses use (RFC 7541 appendix A). Other names are written out: like the C proxies', the
// encoder keeps no table of what it sent, which would have to be searched for every field.
var staticNames = map[string]byte{
	"accept-ranges": 18, "access-control-allow-origin": 20, "age": 21, "allow": 22, "cache-control": 24, "content-disposition": 25,
	"content-encoding": 26, "content-language": 27, "content-length": 28, "content-location": 29, "content-range": 30, "content-type": 31,
	"date": 33, "etag": 34, "expires": 36, "last-modified": 44, "link": 45, "location": 46, "retry-after": 53, "server": 54,
	"set-cookie": 55, "strict-transport-security": 56, "vary": 59, "via": 60, "www-authenticate": 61,
}

// appendStatus appends the pseudo-header field of a response.
func appendStatus(b []byte, status int) []byte {
	switch status {
	case 200:
		return append(b, 0x80|8)
	case 204:
		return append(b, 0x80|9)
	case 206:
		return append(b, 0x80|10)
	case 304:
		return append(b, 0x80|11)
	case 400:
		return append(b, 0x80|12)
	case 404:
		return append(b, 0x80|13)
	case 500:
		return append(b, 0x80|14)
	}
	return append(b, 8, 3, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10))
}

// appendField appends a literal field without indexing, its name in lower case (RFC 7541 section 6.2.2).
func appendField(b []byte, name, value string) []byte {
	var lower [40]byte
	if len(name) <= len(lower) {
		for i := range len(name) {
			lower[i] = toLower(name[i])
		}
		if index := staticNames[string(lower[:len(name)])]; index != 0 {
			if index < 15 {
				b = append(b, index)
			} else {
				b = append(b, 15, index-15)
			}
			return appendString(b, value)
		}
	}
	b = append(b, 0)
	b = appendInteger(b, len(name))
	for i := range len(name) {
		b = append(b, toLower(name[i]))
	}
	return appendString(b, value)
}

func toLower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

func appendString(b []byte, s string) []byte {
	return append(appendInteger(b, len(s)), s...)
}

// appendInteger appends an integer with a prefix of seven bits, the eighth of which is 0 (RFC 7541 section 5.1).
func appendInteger(b []byte, n int) []byte {
	if n < 127 {
		return append(b, byte(n))
	}
	b = append(b, 127)
	for n -= 127; n >= 128; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(b, byte(n))
}

// skipped reports whether a field of a response stays behind: what belongs to one connection, and the length, which is written anew.
func skipped(f *exchange.Field) bool {
	return f.Known != exchange.Unknown && (f.Known.HopByHop() || f.Known == exchange.ContentLength)
}

func appendFields(b []byte, h *exchange.Header) []byte {
	fields := h.Fields()
	for i := range fields {
		if f := &fields[i]; !skipped(f) {
			b = appendField(b, f.Name, f.Value)
		}
	}
	return b
}

// appendResponse appends the header list of a response whose body begins, or is, part. bodyless tells that no body may follow.
func appendResponse(b []byte, x *exchange.Exchange, part []byte, last bool) (list []byte, bodyless bool) {
	res := &x.Response
	b = appendStatus(b, res.Status)
	b = appendFields(b, &res.Header)
	if _, dated := res.Header.Known(exchange.Date); !dated {
		var text [len(dateFormat)]byte
		b = append(b, 15, 33-15)
		b = appendInteger(b, len(dateFormat))
		b = append(b, time.Now().UTC().AppendFormat(text[:0], dateFormat)...)
	}
	if res.Local && x.ID != "" {
		b = appendField(b, "x-request-id", x.ID)
	}
	length := res.ContentLength
	switch {
	case res.Status == 204:
		return b, true
	case x.Request.Method == "HEAD" || res.Status == 304:
		// The length that a GET would have had, if it is known.
		if v, ok := res.Header.Known(exchange.ContentLength); ok && !res.Local {
			return appendField(b, "content-length", v), true
		} else if !res.Local {
			return b, true
		}
		bodyless = true
	case length < 0 && last && res.Trailer.Len() == 0:
		length = int64(len(part))
	case length < 0:
		return b, false
	}
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], length, 10)
	b = append(b, 15, 28-15)
	b = appendInteger(b, len(text))
	return append(b, text...), bodyless
}

const dateFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

// The classes of octets that field names and values are made of (RFC 9113 section 8.2.1).
var nameOctets = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz" {
		t[c] = true
	}
	return t
}()

func validName(s string) bool {
	for i := range len(s) {
		if !nameOctets[s[i]] {
			return false
		}
	}
	return s != ""
}

func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return s == "" || !blank(s[0]) && !blank(s[len(s)-1])
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// joinCookies makes one field of the crumbs that a client may send cookies in (RFC 9113 section 8.2.3).
func joinCookies(h *exchange.Header) {
	n := 0
	for range h.Values("cookie") {
		n++
	}
	if n < 2 {
		return
	}
	var all []string
	for v := range h.Values("cookie") {
		all = append(all, v)
	}
	h.Set("cookie", strings.Join(all, "; "))
}
