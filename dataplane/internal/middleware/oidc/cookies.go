package oidc

import (
	"strconv"
	"strings"
	"time"

	"gateway.internal/dataplane/internal/exchange"
)

const (
	// chunkBytes is the longest value of a cookie: browsers take 4096 bytes with the name and the attributes.
	chunkBytes = 3800
	// maxChunks is how many cookies a session may have.
	maxChunks = 5
)

// cookieOf returns the value of a request's cookie (RFC 6265 section 4.2.1). The first of several counts.
func cookieOf(h *exchange.Header, name string) (value string, found bool) {
	for field := range h.Values("Cookie") {
		for len(field) > 0 {
			part, rest, _ := strings.Cut(field, ";")
			field = rest
			n, v, is := strings.Cut(strings.TrimLeft(part, " "), "=")
			if is && n == name {
				return strings.TrimRight(v, " "), true
			}
		}
	}
	return "", false
}

// chunked returns the value of a session's cookie, which may be in several: the first one begins with how many.
func chunked(h *exchange.Header, name string) (value string, found bool) {
	first, found := cookieOf(h, name)
	if !found {
		return "", false
	}
	count, value, is := strings.Cut(first, ".")
	n, err := strconv.Atoi(count)
	if !is || err != nil || n < 1 || n > maxChunks {
		return "", false
	}
	if n == 1 {
		return value, true
	}
	var b strings.Builder
	b.WriteString(value)
	for i := 1; i < n; i++ {
		part, there := cookieOf(h, name+"-"+strconv.Itoa(i))
		if !there {
			return "", false
		}
		b.WriteString(part)
	}
	return b.String(), true
}

// jar makes the fields Set-Cookie of one answer.
type jar struct {
	secure bool
	fields []string
}

// set sets a cookie, which scripts can't read and other sites' pages don't send.
func (j *jar) set(name, value string, age time.Duration) {
	f := name + "=" + value + "; Path=/; HttpOnly; SameSite=Lax; Max-Age=" + strconv.Itoa(int(age/time.Second))
	if j.secure {
		f += "; Secure"
	}
	j.fields = append(j.fields, f)
}

// setChunked sets a session's cookie. It reports whether it has room.
func (j *jar) setChunked(name, value string, age time.Duration) bool {
	n := max(1, (len(value)+chunkBytes-1)/chunkBytes)
	if n > maxChunks {
		return false
	}
	for i := range n {
		part := value[i*chunkBytes : min(len(value), (i+1)*chunkBytes)]
		if i == 0 {
			j.set(name, strconv.Itoa(n)+"."+part, age)
		} else {
			j.set(name+"-"+strconv.Itoa(i), part, age)
		}
	}
	return true
}

// clear removes a session's cookies, as far as the request has them.
func (j *jar) clear(h *exchange.Header, name string) {
	j.set(name, "", 0)
	for i := 1; i < maxChunks; i++ {
		if part := name + "-" + strconv.Itoa(i); has(h, part) {
			j.set(part, "", 0)
		}
	}
}

func has(h *exchange.Header, name string) bool {
	_, there := cookieOf(h, name)
	return there
}

// isOwn reports whether a cookie of a request is the gateway's: a session, a part of one, or a sign-in.
func (s *step) isOwn(name string, secure bool) bool {
	if secure {
		var is bool
		if name, is = strings.CutPrefix(name, "__Host-"); !is {
			return false
		}
	}
	rest, is := strings.CutPrefix(name, s.cookie)
	switch {
	case !is:
		return false
	case rest == "" || strings.HasPrefix(rest, loginInfix):
		return true
	}
	return len(rest) == 2 && rest[0] == '-' && rest[1] >= '1' && rest[1] < '0'+maxChunks
}

// loginInfix is between the name of the session's cookie and what tells the sign-ins of a browser apart, which has
// loginSuffix bytes.
const (
	loginInfix  = "-login-"
	loginSuffix = 8
	// maxLogins is how many sign-ins a browser may have begun: with the cookies of many more, servers would refuse its
	// requests as too large.
	maxLogins = 8
)

// forgetLogins removes the cookies of a browser's oldest sign-ins, so that there is room for one more. Browsers send
// the oldest first (RFC 6265 section 5.4).
func (j *jar) forgetLogins(h *exchange.Header, session string) {
	var all []string
	for field := range h.Values("Cookie") {
		for part := range strings.SplitSeq(field, ";") {
			name, _, _ := strings.Cut(strings.TrimLeft(part, " "), "=")
			if rest, is := strings.CutPrefix(name, session+loginInfix); is && len(rest) == loginSuffix {
				all = append(all, name)
			}
		}
	}
	for i := 0; i < len(all)-maxLogins+1 && i < 64; i++ {
		j.set(all[i], "", 0)
	}
}

// cookieName returns the name that a cookie has for a request: over https one that only this host can set, and only
// over https (RFC 6265bis section 4.1.3.2).
func cookieName(x *exchange.Exchange, name string) string {
	if x.Scheme == "https" {
		return "__Host-" + name
	}
	return name
}
