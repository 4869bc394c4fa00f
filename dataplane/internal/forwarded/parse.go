package forwarded

import (
	"net/netip"
	"strings"

	"gateway.internal/dataplane/internal/exchange"
)

// lister yields the elements of a list from right to left, over all lines of a field. A line has at least one element,
// which may be empty: a proxy that had nothing to add must not make its client's word its own.
type lister struct {
	fields []exchange.Field
	name   exchange.Name
	rest   string // of the line, where more is set
	more   bool
}

func fromRight(h *exchange.Header, name exchange.Name) lister {
	return lister{fields: h.Fields(), name: name}
}

func (l *lister) previous() (element string, ok bool) {
	for !l.more {
		if len(l.fields) == 0 {
			return "", false
		}
		last := &l.fields[len(l.fields)-1]
		l.fields = l.fields[:len(l.fields)-1]
		if last.Known == l.name {
			l.rest, l.more = last.Value, true
		}
	}
	i := strings.LastIndexByte(l.rest, ',')
	element = l.rest[i+1:]
	if l.more = i >= 0; l.more {
		l.rest = l.rest[:i]
	}
	return strings.Trim(element, " \t"), true
}

// nth returns the n-th element of a list from the right, n from 1, which the proxy said that said the n-th address; or
// the only one, since some proxies set such a field once for all after them. Empty: it can't be told which one it is.
func nth(h *exchange.Header, name exchange.Name, n int) string {
	list := fromRight(h, name)
	only, ok := list.previous()
	if !ok {
		return ""
	}
	element, i := only, 1
	for ; i < n; i++ {
		if element, ok = list.previous(); !ok {
			break
		}
	}
	switch {
	case ok:
		return element
	case i == 1:
		return only
	}
	return ""
}

// maxNode is more than the longest address with a port has characters.
const maxNode = 64

// parseNode reads an address with an optional port. plain is for X-Forwarded-For, where IPv6 may stand without
// brackets; in Forwarded it may not, and the port may be a word that hides it (RFC 7239 section 6). Identifiers that
// hide the address are none.
func parseNode(s string, plain bool) (netip.AddrPort, bool) {
	if s == "" || len(s) > maxNode {
		return netip.AddrPort{}, false
	}
	host, port, ported := s, "", false
	bracketed := s[0] == '['
	if bracketed {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return netip.AddrPort{}, false
		}
		host = s[1:end]
		if rest := s[end+1:]; rest != "" {
			if rest[0] != ':' {
				return netip.AddrPort{}, false
			}
			port, ported = rest[1:], true
		}
	} else if i := strings.IndexByte(s, ':'); i >= 0 && strings.LastIndexByte(s, ':') == i {
		host, port, ported = s[:i], s[i+1:], true
	}
	a, ok := parseAddr(host)
	if !ok || bracketed && a.Is4() || !bracketed && a.Is6() && !plain {
		return netip.AddrPort{}, false
	}
	n := uint16(0)
	if ported {
		if n, ok = parsePort(port, !plain); !ok {
			return netip.AddrPort{}, false
		}
	}
	return netip.AddrPortFrom(a.Unmap(), n), true
}

// parseAddr reads an address without a zone. What can't be one is not shown to netip, whose errors allocate.
func parseAddr(s string) (netip.Addr, bool) {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') && c != '.' && c != ':' {
			return netip.Addr{}, false
		}
	}
	a, err := netip.ParseAddr(s)
	return a, err == nil
}

// parsePort reads a port; hidden allows a word that begins with "_" instead.
func parsePort(s string, hidden bool) (uint16, bool) {
	if hidden && len(s) > 1 && s[0] == '_' {
		for i := range len(s) {
			if c := s[i]; (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '.' && c != '_' && c != '-' {
				return 0, false
			}
		}
		return 0, true
	}
	if s == "" || len(s) > 5 {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return uint16(n), n <= 65535
}

// element is what one proxy says in Forwarded. What it does not say, or says with escapes, which nothing here needs, is
// empty.
type element struct{ node, host, proto string }

// elements are the last ones of a line: the n-th one, from 0, is at n%len.
type elements [MaxProxies + 1]element

// parse reads a line by the letter of RFC 7239 section 4, from left to right, since a quoted string may hold commas. It
// returns how many elements there are. A line that breaks the rules anywhere says nothing: who knows whose quote it is
// that was not closed.
func (all *elements) parse(s string) (n int, ok bool) {
	for {
		e := &all[n%len(all)]
		if s, ok = e.parse(strings.TrimLeft(s, " \t")); !ok {
			return 0, false
		}
		n++
		if s = strings.TrimLeft(s, " \t"); s == "" {
			return n, true
		}
		if s[0] != ',' {
			return 0, false
		}
		s = s[1:]
	}
}

// parse reads forwarded-element, which may be empty, and returns what follows it.
func (e *element) parse(s string) (rest string, ok bool) {
	*e = element{}
	var by string
	var seen [4]bool
	for {
		if name := token(s); name != "" {
			if s = s[len(name):]; s == "" || s[0] != '=' {
				return "", false
			}
			value, after, ok := pairValue(s[1:])
			if !ok {
				return "", false
			}
			s = after
			for i, known := range [...]struct {
				name string
				to   *string
			}{{"for", &e.node}, {"host", &e.host}, {"proto", &e.proto}, {"by", &by}} {
				if exchange.EqualFold(name, known.name) {
					if seen[i] {
						return "", false
					}
					seen[i] = true
					*known.to = value
				}
			}
		}
		if s == "" || s[0] != ';' {
			return s, true
		}
		s = s[1:]
	}
}

// pairValue reads token / quoted-string (RFC 9110 section 5.6). The value of one with escapes is empty.
func pairValue(s string) (value, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		value = token(s)
		return value, s[len(value):], value != ""
	}
	escaped := false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			if escaped {
				return "", s[i+1:], true
			}
			return s[1:i], s[i+1:], true
		case c == '\\':
			escaped = true
			i++
		case c < 0x20 && c != '\t' || c == 0x7f:
			return "", "", false
		}
	}
	return "", "", false
}

// token returns the token that s begins with (RFC 9110 section 5.6.2).
func token(s string) string {
	i := 0
	for i < len(s) && tokenOctets[s[i]] {
		i++
	}
	return s[:i]
}

var tokenOctets = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()
