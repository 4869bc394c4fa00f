// Package origin compares the origins of pages (RFC 6454) with those that settings name.
package origin

import (
	"strings"

	"gateway.internal/dataplane/internal/exchange"
)

// Set is a list of origins. It is immutable; the zero value has none.
type Set struct {
	any     bool
	origins []origin
}

// origin is exact, or the part before and after one or more labels.
type origin struct{ head, tail string }

// Compile returns the set of what settings name: "https://app.example.com", "https://*.example.com" for all below a
// host, or "*" for any.
func Compile(list []string) Set {
	var s Set
	for _, o := range list {
		if o == "*" {
			s.any = true
			continue
		}
		scheme, host, _ := strings.Cut(strings.ToLower(o), "://")
		if rest, wildcard := strings.CutPrefix(host, "*."); wildcard {
			s.origins = append(s.origins, origin{scheme + "://", "." + rest})
		} else {
			s.origins = append(s.origins, origin{scheme + "://" + host, ""})
		}
	}
	return s
}

// Any reports whether every origin is one of the set.
func (s *Set) Any() bool { return s.any }

// Has reports whether an origin, as the field Origin says it, is one of the set. It does not allocate.
func (s *Set) Has(text string) bool {
	if s.any {
		return true
	}
	for i := range s.origins {
		if s.origins[i].matches(text) {
			return true
		}
	}
	return false
}

func (o origin) matches(s string) bool {
	if o.tail == "" {
		return exchange.EqualFold(s, o.head)
	}
	if len(s) <= len(o.head)+len(o.tail) || !exchange.EqualFold(s[:len(o.head)], o.head) ||
		!exchange.EqualFold(s[len(s)-len(o.tail):], o.tail) {
		return false
	}
	for _, c := range []byte(s[len(o.head) : len(s)-len(o.tail)]) {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// Same reports whether an origin is that of a request's host, whatever its scheme: that is not known behind proxies
// which end TLS and do not say so. The ports that schemes have by themselves may be said or not. An origin that is
// opaque ("null") is no host's.
func Same(text, host string) bool {
	scheme, authority, ok := strings.Cut(text, "://")
	if !ok || authority == "" || host == "" {
		return false
	}
	port := ""
	switch {
	case exchange.EqualFold(scheme, "https"):
		port = ":443"
	case exchange.EqualFold(scheme, "http"):
		port = ":80"
	}
	return exchange.EqualFold(withoutPort(authority, port), withoutPort(host, port))
}

func withoutPort(authority, port string) string {
	if port == "" {
		return authority
	}
	return strings.TrimSuffix(authority, port)
}
