package explain

import (
	"fmt"
	"strconv"
	"strings"

	"gateway.internal/shared/middleware"
	"gateway.internal/shared/routing"
)

// Head is the head of a request, as its codec has read it, and what is left to chance.
type Head struct {
	// Method is the method, case kept.
	Method string
	// Scheme is "http" or "https", the client's. With https, the connection was opened for Host.
	Scheme string
	// Host is the authority, with its port where it is sent; empty: none (HTTP/1.0).
	Host string
	// Port is the node's, that the connection came in at; 0: routes that name ports do not match.
	Port uint16
	// Path is the path as it is sent; empty for a CONNECT, "*" for an OPTIONS to the node.
	Path string
	// RawQuery is the query without "?", and HasQuery tells "/a?" from "/a".
	RawQuery string
	HasQuery bool
	// Fields are the header fields in their order.
	Fields []Field
	// Client is what is known of the client.
	Client routing.Client
	// Random is the number that chooses one of several backends; it is taken modulo the sum of their weights.
	Random uint32
	// Fraction decides whether the request is mirrored: from 0, and below 1.
	Fraction float64
}

// Field is a header field.
type Field struct{ Name, Value string }

// Lookup implements match.HeaderSource.
func (h *Head) Lookup(name string) (string, bool) {
	value, _, ok := h.LookupFrom(0, name)
	return value, ok
}

// LookupFrom implements match.HeaderSource.
func (h *Head) LookupFrom(place int, name string) (value string, next int, ok bool) {
	for i := place; i < len(h.Fields); i++ {
		if strings.EqualFold(h.Fields[i].Name, name) {
			return h.Fields[i].Value, i + 1, true
		}
	}
	return "", 0, false
}

// ParseHead reads a method, a URL as it would be sent, such as "http://shop.example/cart?id=7", and fields such as
// "Accept: */*". What a URL may not have is kept where nodes have their say in it. A field Host takes the place of the
// URL's host. The URL of a CONNECT is a host with a port, and that of an OPTIONS to the node itself "*".
func ParseHead(method, url string, fields []string) (*Head, error) {
	h := &Head{Method: method, Scheme: "http"}
	if !middleware.ValidFieldName(method) {
		return nil, fmt.Errorf("%q is no method: a token such as GET", method)
	}
	for _, f := range fields {
		name, value, ok := strings.Cut(f, ":")
		if value = strings.Trim(value, " \t"); !ok || !middleware.ValidFieldName(name) || !middleware.ValidFieldValue(value) {
			return nil, fmt.Errorf("%q is no header field: it has to be NAME: VALUE", f)
		}
		if strings.EqualFold(name, "host") {
			h.Host = value
			continue
		}
		h.Fields = append(h.Fields, Field{name, value})
	}
	if i := strings.IndexFunc(url, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }); i >= 0 {
		return nil, fmt.Errorf("the URL %q has a character that is never sent, after %q", url, url[:i])
	}
	host, rest := "", url
	if method == "CONNECT" {
		host, rest = url, ""
	} else if scheme, after, absolute := strings.Cut(url, "://"); absolute && !strings.ContainsAny(scheme, "/?") {
		if h.Scheme = strings.ToLower(scheme); h.Scheme != "http" && h.Scheme != "https" {
			return nil, fmt.Errorf("the scheme of %q has to be http or https", url)
		}
		end := strings.IndexAny(after, "/?")
		if end < 0 {
			end = len(after)
		}
		if host, rest = after[:end], after[end:]; rest == "" || rest[0] == '?' {
			rest = "/" + rest
		}
		if host == "" {
			return nil, fmt.Errorf("the URL %q has no host", url)
		}
	}
	if strings.ContainsRune(host, '@') {
		return nil, fmt.Errorf("the URL %q has user information, which is never sent", url)
	}
	if h.Host == "" {
		h.Host = host
	}
	h.Port = portOf(host, h.Scheme)
	h.Path, h.RawQuery, h.HasQuery = strings.Cut(rest, "?")
	if method != "CONNECT" && h.Path != "*" && !strings.HasPrefix(h.Path, "/") {
		return nil, fmt.Errorf("the URL %q has to begin with http://, https:// or /", url)
	}
	if h.Path == "*" && method != "OPTIONS" {
		return nil, fmt.Errorf("the URL * is for OPTIONS alone")
	}
	return h, nil
}

// portOf returns the port that a client connects to.
func portOf(authority, scheme string) uint16 {
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.IndexByte(authority[i:], ']') < 0 {
		if n, err := strconv.ParseUint(authority[i+1:], 10, 16); err == nil {
			return uint16(n)
		}
	}
	if scheme == "https" {
		return 443
	}
	return 80
}
