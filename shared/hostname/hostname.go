// Package hostname says what a host in the configuration stands for. Routes, certificates and what those ask of
// clients, and filters of the admin API all look hosts up here, so that none of them takes a request for another's. It
// knows neither routes nor certificates.
package hostname

import (
	"errors"
	"iter"
	"net/netip"
	"strings"
)

// MaxLength is the longest name in bytes (RFC 1035 section 2.3.4).
const MaxLength = 253

// Buffer has room for a key.
type Buffer [256]byte

// Key brings the host of an authority (RFC 3986 section 3.2) into the form that hosts are compared in, in b: lower
// case, without a port and a final dot; addresses as RFC 5952 writes them, without brackets, and IPv4-mapped ones as
// IPv4. What is no host has the empty key. It does not allocate, but for what is no address and for zones.
func Key(b *Buffer, authority string) []byte {
	host := authority
	if i := strings.IndexByte(authority, ':'); i >= 0 {
		if authority[0] == '[' || strings.IndexByte(authority[i+1:], ':') >= 0 {
			return addressKey(b, authority)
		}
		host = authority[:i]
	}
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if len(host) > MaxLength {
		return nil
	}
	for i := range len(host) {
		c := host[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		b[i] = c
	}
	return b[:len(host)]
}

// addressKey is Key for IPv6, whose colons would be taken for a port's.
func addressKey(b *Buffer, authority string) []byte {
	if authority[0] == '[' {
		end := strings.IndexByte(authority, ']')
		if end < 0 {
			return nil
		}
		authority = authority[1:end]
	}
	a, err := netip.ParseAddr(authority)
	if err != nil {
		return nil
	}
	return a.Unmap().WithZone("").AppendTo(b[:0])
}

// Pattern is a host in the configuration: the key of one host, or, beginning with a dot, of every host that has one or
// more labels before it.
type Pattern string

const form = `a name such as "api.example.com", an IP address, or "*.example.com"`

var (
	errForm   = errors.New("is no host: " + form + "; no port, no scheme")
	errEmpty  = errors.New("is empty: " + form + " has to be there")
	errScheme = errors.New("is no host, but has a scheme: " + form + ", without it")
	errPath   = errors.New(`is no host, but has a "/": ` + form + ", without a path")
	errPort   = errors.New("is no host, but has a port: " + form + ", without it")
	errZone   = errors.New(`is no host, but has the zone of an interface behind "%": an IP address, without it`)
	errColons = errors.New(`is no host: it has colons as an IPv6 address has, such as "2001:db8::1" or "::1", ` +
		"and is none")
	errWildcard = errors.New(`is no host: a "*" stands for the first labels of a name as a whole, as in ` +
		`"*.example.com"; leave hosts out for any`)
	errAddress  = errors.New(`is no host: a wildcard is for names, and this is part of an address`)
	errNotASCII = errors.New(`is no host: write names of other scripts as they are in DNS, such as "xn--mnchen-3ya.example"`)
	errLength   = errors.New("is no host: a name has up to 253 bytes, and each of its labels, between the dots, 1 to 63")
)

// Parse reads "api.example.com", an IP address with or without brackets, or "*.example.com".
func Parse(s string) (Pattern, error) {
	name, wildcard := strings.CutPrefix(s, "*.")
	for i := range len(name) {
		if name[i] >= 0x80 {
			return "", errNotASCII
		}
	}
	switch {
	case s == "":
		return "", errEmpty
	case strings.Contains(name, "://"):
		return "", errScheme
	case strings.Contains(name, "/"):
		return "", errPath
	case strings.Contains(name, "*"), wildcard && name == "":
		return "", errWildcard
	}
	if strings.Contains(name, ":") {
		if wildcard {
			return "", errAddress
		}
		var b Buffer
		inner, bracket := strings.CutPrefix(name, "[")
		if bracket {
			var closed bool
			if inner, closed = strings.CutSuffix(inner, "]"); !closed {
				return "", badAddress(name)
			}
		}
		if a, err := netip.ParseAddr(inner); err != nil || a.Zone() != "" {
			return "", badAddress(name)
		}
		return Pattern(addressKey(&b, inner)), nil
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if !isName(name) {
		return "", badName(name)
	}
	if !wildcard {
		return Pattern(name), nil
	}
	if last := name[strings.LastIndexByte(name, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return "", errAddress
	}
	return Pattern("." + name), nil
}

// badAddress says what is wrong with what has a colon and is no address.
func badAddress(s string) error {
	host, port, _ := strings.Cut(s, ":")
	switch _, err := netip.ParseAddrPort(s); {
	case err == nil, strings.Trim(port, "0123456789") == "" && !strings.Contains(host, "["):
		return errPort
	case strings.Contains(s, "%"):
		return errZone
	case strings.Contains(port, ":"):
		return errColons
	}
	return errForm
}

// badName says what is wrong with what is no name.
func badName(s string) error {
	for label := range strings.SplitSeq(s, ".") {
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return errForm
		}
	}
	return errLength
}

func isName(s string) bool {
	if s == "" || len(s) > MaxLength {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// Normal returns a host of the configuration in the form that Parse makes of it, and what is no host as it is.
func Normal(s string) string {
	if p, err := Parse(s); err == nil {
		return p.String()
	}
	return s
}

// Wildcard reports whether p stands for all hosts below a name.
func (p Pattern) Wildcard() bool { return p != "" && p[0] == '.' }

// String writes p as it stands in a configuration.
func (p Pattern) String() string {
	if p.Wildcard() {
		return "*" + string(p)
	}
	return string(p)
}

// Matches reports whether p stands for the host of a key.
func (p Pattern) Matches(key string) bool {
	if p.Wildcard() {
		return len(key) > len(p) && strings.HasSuffix(key, string(p))
	}
	return key != "" && key == string(p)
}

// Covers reports whether p stands for every host that o stands for.
func (p Pattern) Covers(o Pattern) bool {
	if o.Wildcard() {
		return p.Wildcard() && strings.HasSuffix(string(o), string(p))
	}
	return p.Matches(string(o))
}

// NextWildcard returns where in a key the next shorter wildcard begins that stands for it, after the one at i; 0 is
// before the first, and less than 0 behind the last. The longest comes first.
func NextWildcard(key []byte, i int) int {
	for i++; i < len(key); i++ {
		if key[i] == '.' {
			return i
		}
	}
	return -1
}

// Above yields the wildcards that cover p, the longest first; p itself where it is one.
func (p Pattern) Above() iter.Seq[Pattern] {
	return func(yield func(Pattern) bool) {
		if p.Wildcard() && !yield(p) {
			return
		}
		key := []byte(p)
		for i := NextWildcard(key, 0); i > 0; i = NextWildcard(key, i) {
			if !yield(p[i:]) {
				return
			}
		}
	}
}

// Index finds the value of the most specific pattern that stands for a host: the host itself, else the longest
// wildcard. The zero value is empty. It may be read by many at once when nobody puts.
type Index[T any] struct{ exact, wild map[string]T }

// Put sets the value of a pattern.
func (x *Index[T]) Put(p Pattern, v T) {
	m := &x.exact
	if p.Wildcard() {
		m = &x.wild
	}
	if *m == nil {
		*m = map[string]T{}
	}
	(*m)[string(p)] = v
}

// Get returns the value of exactly this pattern.
func (x *Index[T]) Get(p Pattern) (T, bool) {
	if p.Wildcard() {
		v, ok := x.wild[string(p)]
		return v, ok
	}
	v, ok := x.exact[string(p)]
	return v, ok
}

// Lookup returns the value for the host of a key. It does not allocate.
func (x *Index[T]) Lookup(key []byte) (v T, ok bool) {
	if v, ok = x.exact[string(key)]; ok || len(x.wild) == 0 {
		return v, ok
	}
	for i := NextWildcard(key, 0); i > 0; i = NextWildcard(key, i) {
		if v, ok = x.wild[string(key[i:])]; ok {
			return v, true
		}
	}
	return v, false
}
