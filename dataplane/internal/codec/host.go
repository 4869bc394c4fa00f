package codec

import "strings"

// MaxHostLength is the longest host with its port, in bytes.
const MaxHostLength = 255 + len(":65535")

// ValidHost reports whether s is host [":" port] (RFC 3986 section 3.2.2), which is what the field Host may say. Names
// are compared, not resolved, so any reg-name may stand there; brackets have to pair and a port has to be a number.
func ValidHost(s string) bool {
	if s == "" || len(s) > MaxHostLength {
		return false
	}
	host := s
	if s[0] == '[' {
		end := strings.IndexByte(s, ']')
		if end < 2 {
			return false
		}
		for i := 1; i < end; i++ {
			if c := s[i]; Chars[c]&CharHex == 0 && c != ':' && c != '.' {
				return false
			}
		}
		host = s[end+1:]
		if host == "" {
			return true
		}
		return host[0] == ':' && validPort(host[1:])
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		if i == 0 || !validPort(s[i+1:]) {
			return false
		}
		host = s[:i]
	}
	for i := range len(host) {
		if c := host[i]; Chars[c]&CharHost == 0 || c == '[' || c == ']' {
			return false
		}
	}
	return true
}

func validPort(s string) bool { return len(s) <= 5 && AllOf(s, CharDigit) }

// validAuthority reports whether s is host ":" port. Other than in Host, the port has to be there, and to be one (RFC
// 9110 section 9.3.6).
func validAuthority(s string) bool {
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 || !ValidHost(s) {
		return false
	}
	port := s[colon+1:]
	if port == "" || len(port) > 5 || port[0] == '0' || !AllOf(port, CharDigit) {
		return false
	}
	n := 0
	for i := range len(port) {
		n = n*10 + int(port[i]-'0')
	}
	return n <= 65535
}
