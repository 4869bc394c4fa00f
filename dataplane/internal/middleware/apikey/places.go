package apikey

import (
	"net/url"
	"strings"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/identity"
)

// keys are what a request has of keys.
type keys struct {
	key string
	// several says that there are different ones, odd that one can't be read: neither is a key.
	several, odd bool
	// Where they are.
	inHeader, inQuery, inCookie bool
}

func (k *keys) add(key string) {
	switch {
	case key == "":
		k.odd = true
	case k.key == "":
		k.key = key
	case k.key != key: // both are the client's own: how long this takes tells it nothing
		k.several = true
	}
}

// find looks for keys in all places: where a request has several, they have to agree, since others on its way may look
// at another one.
func (s *step) find(x *exchange.Exchange, found *keys) {
	for i := range s.headers {
		h := &s.headers[i]
		for value := range x.Request.Header.Values(h.name) {
			if h.schemed {
				var own bool
				if value, own = behindScheme(value); !own {
					continue
				}
			}
			found.inHeader = true
			found.add(value)
		}
	}
	if len(s.query) > 0 && x.Request.RawQuery != "" {
		s.findInQuery(x, found)
	}
	if len(s.cookies) > 0 {
		s.findInCookies(x, found)
	}
}

// behindScheme returns what follows the scheme in Authorization; own is false for credentials of another scheme.
func behindScheme(value string) (rest string, own bool) {
	if len(value) < len(scheme) || !exchange.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	rest = value[len(scheme):]
	if rest != "" && rest[0] != ' ' {
		return "", false
	}
	return strings.Trim(rest, " "), true
}

func (s *step) findInQuery(x *exchange.Exchange, found *keys) {
	for rest, more := x.Request.RawQuery, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "&")
		if name, value, _ := strings.Cut(part, "="); isOneOf(s.query, plain(name)) {
			found.inQuery = true
			found.add(plain(value))
		}
	}
}

// plain decodes a part of a query; "" where it can't be decoded. It allocates only where there is something to decode.
func plain(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	decoded, err := url.QueryUnescape(s)
	if err != nil {
		return ""
	}
	return decoded
}

func isOneOf(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

func (s *step) findInCookies(x *exchange.Exchange, found *keys) {
	for field := range x.Request.Header.Values("Cookie") {
		for rest, more := field, true; more; {
			var part string
			part, rest, more = strings.Cut(rest, ";")
			name, value, is := strings.Cut(strings.Trim(part, " \t"), "=")
			if is && isOneOf(s.cookies, strings.TrimRight(name, " \t")) {
				found.inCookie = true
				found.add(unquoted(strings.Trim(value, " \t")))
			}
		}
	}
}

func unquoted(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// remove takes the key out of the request, wherever it is.
func (s *step) remove(x *exchange.Exchange, found *keys) {
	if found.inHeader {
		for i := range s.headers {
			h, has := &s.headers[i], false
			for value := range x.Request.Header.Values(h.name) {
				_, own := behindScheme(value)
				has = has || own || !h.schemed
			}
			if has {
				x.Request.Header.Del(h.name)
			}
		}
	}
	if found.inQuery {
		x.ChangeQuery(s.query, "")
	}
	if found.inCookie {
		identity.RemoveCookies(x, func(name string) bool { return isOneOf(s.cookies, name) })
	}
}
