package identity

import (
	"strings"

	"gateway.internal/dataplane/internal/exchange"
)

// RemoveCookies takes the cookies out of a request that own picks by their names, which are credentials for the
// gateway. The others stay, in one field. It does not allocate in the steady state.
func RemoveCookies(x *exchange.Exchange, own func(name string) bool) {
	h, start, found := &x.Request.Header, len(x.Texts), false
	for field := range h.Values("Cookie") {
		for rest, more := field, true; more; {
			var part string
			part, rest, more = strings.Cut(rest, ";")
			part = strings.Trim(part, " \t")
			if part == "" {
				continue
			}
			if own(cookieName(part)) {
				found = true
				continue
			}
			if len(x.Texts) > start {
				x.Texts = append(x.Texts, "; "...)
			}
			x.Texts = append(x.Texts, part...)
		}
	}
	switch {
	case !found:
		x.Texts = x.Texts[:start]
	case len(x.Texts) > start:
		h.Set("Cookie", x.Text(start))
	default:
		h.Del("Cookie")
	}
}

func cookieName(pair string) string {
	name, _, _ := strings.Cut(pair, "=")
	return strings.TrimRight(name, " \t")
}
