package runtime

import (
	"strings"

	"gateway.internal/dataplane/internal/exchange"
)

// Reverse undoes in a service's response what Forward has done to the request, where the route says so: URLs of the
// service's own become those that clients know. It comes before middleware sees the response.
func (r *Route) Reverse(x *exchange.Exchange) {
	if r.Rewrite == nil || !r.Rewrite.Reverse {
		return
	}
	prefix, isPrefix := r.Rewrite.Prefix()
	v := reversal{x: x, outer: x.Request.Path[:x.Params.PrefixLength()], inner: strings.TrimSuffix(prefix, "/")}
	if !isPrefix {
		v.outer = ""
	}
	h := &x.Response.Header
	h.Map("Location", v.reference)
	h.Map("Content-Location", v.reference)
	h.Map("Refresh", v.refresh)
	h.Map("Set-Cookie", v.cookie)
}

// reversal is what was done to a request: its path began with outer, and with inner once it was rewritten, both without
// a "/" at the end.
type reversal struct {
	x            *exchange.Exchange
	outer, inner string
}

// reference reverses a URI reference (RFC 3986 section 4.1). One to another host stays, and one that is relative to the
// request's path leads to the right place as it is.
func (v *reversal) reference(ref string) string {
	if strings.HasPrefix(ref, "/") && !strings.HasPrefix(ref, "//") {
		return v.path(ref)
	}
	scheme, rest, _ := strings.Cut(ref, "//")
	if scheme != "" && !exchange.EqualFold(scheme, "http:") && !exchange.EqualFold(scheme, "https:") || len(rest) == len(ref) || rest == "" {
		return ref
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, path := rest[:end], rest[end:]
	if !v.own(authority) {
		return ref
	}
	if strings.HasPrefix(path, "/") {
		path = v.path(path)
	} else if v.inner == "" && v.outer != "" {
		path = join(v.x, v.outer, "/", path)
	}
	return join(v.x, v.x.Scheme, "://", v.x.ForwardedHost(), path)
}

// own reports whether an authority is the service's: the host that it was asked for, its endpoint, or the host that
// clients ask for, which it is told.
func (v *reversal) own(authority string) bool {
	x := v.x
	for _, own := range [...]string{x.Forward.Host, x.Request.Host, x.Endpoint, x.ForwardedHost()} {
		if own != "" && exchange.EqualFold(withoutDefaultPort(authority), withoutDefaultPort(own)) {
			return true
		}
	}
	return false
}

func withoutDefaultPort(authority string) string {
	if a, ok := strings.CutSuffix(authority, ":80"); ok {
		return a
	}
	return strings.TrimSuffix(authority, ":443")
}

// path reverses an absolute path with what follows it. One that begins as clients know it was made by a service that
// goes by X-Forwarded-Prefix, and stays.
func (v *reversal) path(p string) string {
	switch {
	case v.outer == v.inner || !below(p, v.inner):
		return p
	case below(p, v.outer) && !below(v.inner, v.outer):
		return p
	}
	rest := p[len(v.inner):]
	switch {
	case v.outer != "":
		return join(v.x, v.outer, rest)
	case rest == "" || rest[0] != '/':
		return join(v.x, "/", rest)
	case len(rest) > 1 && strings.IndexByte(otherHost, rest[1]) >= 0:
		return join(v.x, "/.", rest)
	}
	return rest
}

// otherHost is what makes of a path a reference to another host where it follows the "/" at the start: browsers take
// "\" for "/", and leave tabs out (WHATWG URL standard, section 4.4).
const otherHost = "/\\\t"

// below reports whether a path is a prefix or continues it with a further segment.
func below(p, prefix string) bool {
	rest, ok := strings.CutPrefix(p, prefix)
	return ok && (rest == "" || rest[0] == '/' || rest[0] == '?' || rest[0] == '#')
}

// refresh reverses the URL in a value such as "5; url=/login".
func (v *reversal) refresh(value string) string {
	const name = "url="
	for i := 0; i+len(name) <= len(value); i++ {
		if !exchange.EqualFold(value[i:i+len(name)], name) {
			continue
		}
		ref, end := value[i+len(name):], ""
		start := value[:i+len(name)]
		if ref != "" && (ref[0] == '"' || ref[0] == '\'') {
			start, ref = value[:len(start)+1], ref[1:]
			if n := len(ref); n > 0 && ref[n-1] == start[len(start)-1] {
				ref, end = ref[:n-1], ref[n-1:]
			}
		}
		if to := v.reference(ref); to != ref {
			return join(v.x, start, to, end)
		}
		return value
	}
	return value
}

// cookie reverses Path, and takes Domain out where it is the host that only the service knows: the cookie is then the
// client's host's. Cookies whose names begin with "__Host-" have to have the path "/" (RFC 6265bis section 4.1.3.2),
// and stay.
func (v *reversal) cookie(value string) string {
	const hostPrefix = "__Host-"
	if len(value) >= len(hostPrefix) && exchange.EqualFold(value[:len(hostPrefix)], hostPrefix) {
		return value
	}
	changed := false
	var parts [16]string
	list := append(parts[:0], value[:attributeEnd(value)])
	for rest := value[attributeEnd(value):]; rest != ""; {
		n := attributeEnd(rest[1:]) + 1
		attribute := rest[:n]
		rest = rest[n:]
		name, text, _ := strings.Cut(strings.TrimLeft(attribute[1:], " "), "=")
		switch {
		case exchange.EqualFold(name, "path") && strings.HasPrefix(text, "/"):
			to := v.path(text)
			if text == "/" && len(to) > 1 {
				to = strings.TrimSuffix(to, "/") // "/shop/" would not be for "/shop"
			}
			if to != text {
				attribute, changed = join(v.x, attribute[:len(attribute)-len(text)], to), true
			}
		case exchange.EqualFold(name, "domain") && v.hidden(strings.TrimPrefix(text, ".")):
			attribute, changed = "", true
		}
		list = append(list, attribute)
	}
	if !changed {
		return value
	}
	return join(v.x, list...)
}

func attributeEnd(s string) int {
	if i := strings.IndexByte(s, ';'); i >= 0 {
		return i
	}
	return len(s)
}

// hidden reports whether a domain is the host that the service was asked for instead of the client's.
func (v *reversal) hidden(domain string) bool {
	host, _, _ := strings.Cut(v.x.Forward.Host, ":")
	outer, _, _ := strings.Cut(v.x.Request.Host, ":")
	return host != "" && exchange.EqualFold(domain, host) && !exchange.EqualFold(host, outer)
}
