package http2

import (
	"strconv"
	"time"

	"gateway.internal/dataplane/internal/exchange"
)

// The entries of the static table that are used (RFC 7541 appendix A). Other names are written out: like the C
// proxies', the encoder keeps no table of what it sent, which would have to be searched for every field.
var staticNames = map[string]byte{
	"accept": 19, "accept-charset": 15, "accept-encoding": 16, "accept-language": 17, "accept-ranges": 18, "access-control-allow-origin": 20,
	"age": 21, "allow": 22, "authorization": 23, "cache-control": 24, "content-disposition": 25, "content-encoding": 26, "content-language": 27,
	"content-length": 28, "content-location": 29, "content-range": 30, "content-type": 31, "cookie": 32, "date": 33, "etag": 34, "expect": 35,
	"expires": 36, "if-match": 39, "if-modified-since": 40, "if-none-match": 41, "if-range": 42, "if-unmodified-since": 43, "last-modified": 44,
	"link": 45, "location": 46, "range": 50, "referer": 51, "retry-after": 53, "server": 54, "set-cookie": 55, "strict-transport-security": 56,
	"user-agent": 58, "vary": 59, "via": 60, "www-authenticate": 61,
}

// neverIndexed are the names of secrets, which nobody on the way is to keep in a table that an attacker might probe
// (RFC 7541 section 7.1.3).
func neverIndexed(index byte) bool { return index == 23 || index == 32 || index == 55 }

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
			return appendString(appendIndexed(b, index), value)
		}
	}
	b = append(b, 0)
	b = appendInteger(b, len(name))
	for i := range len(name) {
		b = append(b, toLower(name[i]))
	}
	return appendString(b, value)
}

// appendIndexed begins a literal field whose name, which is at least the 15th, is of the static table.
func appendIndexed(b []byte, index byte) []byte {
	first := byte(15)
	if neverIndexed(index) {
		first |= 0x10
	}
	return append(b, first, index-15)
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

func appendFields(b []byte, h *exchange.Header) []byte {
	fields := h.Fields()
	for i := range fields {
		if f := &fields[i]; !f.Known.Answered() {
			b = appendField(b, f.Name, f.Value)
		}
	}
	return b
}

// appendResponse appends the header list of a response whose body begins, or is, part. bodyless tells that no body may
// follow.
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
	if x.ID != "" {
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
	case length < 0 && last && res.Trailers().Len() == 0 && len(part) > 0:
		length = int64(len(part))
	case length < 0:
		return b, false
	}
	return appendLength(b, length), bodyless
}

func appendLength(b []byte, length int64) []byte {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], length, 10)
	b = append(b, 15, 28-15)
	b = appendInteger(b, len(text))
	return append(b, text...)
}

// appendRequest appends the header list that the service gets (RFC 9113 section 8.3.1, RFC 9110 section 7.6).
func appendRequest(b []byte, x *exchange.Exchange, scheme string) []byte {
	req := &x.Request
	method := req.Method
	if req.Upgrade != "" {
		method = "CONNECT"
	}
	switch method {
	case "GET":
		b = append(b, 0x80|2)
	case "POST":
		b = append(b, 0x80|3)
	default:
		b = appendString(append(b, 2), method)
	}
	if scheme == "https" {
		b = append(b, 0x80|7)
	} else {
		b = append(b, 0x80|6)
	}
	host, path := req.Host, req.Path
	if x.Forward.Host != "" {
		host = x.Forward.Host
	}
	if x.Forward.Path != "" {
		path = x.Forward.Path
	}
	if host != "" { // HTTP/1.0 may say none
		b = appendString(append(b, 1), host)
	}
	b = append(b, 4)
	if req.HasQuery {
		b = appendInteger(b, len(path)+1+len(req.RawQuery))
		b = append(append(append(b, path...), '?'), req.RawQuery...)
	} else {
		b = appendString(b, path)
	}
	if req.Upgrade != "" {
		b = appendField(b, ":protocol", req.Upgrade)
	}
	fields := req.Header.Fields()
	for i := range fields {
		if f := &fields[i]; !f.Known.Renewed() && (req.Upgrade == "" || !exchange.EqualFold(f.Name, "Sec-WebSocket-Key")) {
			b = appendField(b, f.Name, f.Value)
		}
	}
	if !x.Forwarded.OmitXForwarded {
		b = appendField(b, "x-forwarded-for", x.ForwardedFor())
		b = appendField(b, "x-forwarded-proto", x.Scheme)
		b = appendField(b, "x-forwarded-host", x.ForwardedHost())
	}
	if x.Forwarded.Standard != "" {
		b = appendField(b, "forwarded", x.Forwarded.Standard)
	}
	b = appendField(b, "x-request-id", x.ID)
	b = appendJoined(b, "via", &req.Header, exchange.Via, x.Forwarded.Via)
	if x.TLS != nil && x.TLS.ClientCert != "" {
		b = appendField(b, "client-cert", x.TLS.ClientCert)
	}
	if req.ContentLength > 0 || req.ContentLength == 0 && (req.Method == "POST" || req.Method == "PUT" || req.Method == "PATCH") {
		b = appendLength(b, req.ContentLength)
	}
	if req.Expects100 {
		b = appendField(b, "expect", "100-continue")
	}
	if req.AcceptsTrailers {
		b = appendField(b, "te", "trailers")
	}
	return b
}

// appendJoined appends a field with the values that came with the request and one more.
func appendJoined(b []byte, name string, h *exchange.Header, earlier exchange.Name, last string) []byte {
	const comma = ", "
	size := len(last)
	fields := h.Fields()
	for i := range fields {
		if fields[i].Known == earlier && fields[i].Value != "" {
			size += len(fields[i].Value) + len(comma)
		}
	}
	if index := staticNames[name]; index != 0 {
		b = appendIndexed(b, index)
	} else {
		b = appendString(append(b, 0), name)
	}
	b = appendInteger(b, size)
	for i := range fields {
		if fields[i].Known == earlier && fields[i].Value != "" {
			b = append(append(b, fields[i].Value...), comma...)
		}
	}
	return append(b, last...)
}

const dateFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

// The classes of octets that field names and values are made of (RFC 9113 section 8.2.1).
var nameOctets = func() (t [256]uint8) {
	for _, c := range "!#$%&'*+.^_`|~" {
		t[c] = tokenOctet
	}
	for _, c := range "-0123456789abcdefghijklmnopqrstuvwxyz" {
		t[c] = tokenOctet | plainOctet
	}
	return t
}()

const (
	tokenOctet uint8 = 1 << iota
	plainOctet       // no octet that makes a name odd; see exchange.NameRule
)

// validName reports whether s is a field's name, and whether it is an odd one.
func validName(s string) (valid, odd bool) {
	all := tokenOctet | plainOctet
	for i := range len(s) {
		all &= nameOctets[s[i]]
	}
	return s != "" && all&tokenOctet != 0, all&plainOctet == 0
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
