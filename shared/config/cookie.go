package config

import (
	"strconv"
	"strings"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/hostname"
)

// maxCookieTTL is the longest that browsers keep a cookie.
const maxCookieTTL = 400 * 24 * time.Hour

// Cookie is a cookie that nodes give to clients. It is comparable.
type Cookie struct {
	// Name is its name.
	Name string
	// attributes follow the value in the field Set-Cookie, and secure follows them for clients that use https.
	attributes, secure string
}

// CookieOf reads a valid cookie.
func CookieOf(m *configv1.ClientCookie) Cookie {
	c := Cookie{Name: m.GetName(), attributes: "; Path=" + orString(m.GetPath(), "/")}
	if m.GetDomain() != "" {
		c.attributes += "; Domain=" + m.GetDomain()
	}
	if ttl := durationOr(m.GetTtl(), 0); ttl > 0 {
		c.attributes += "; Max-Age=" + strconv.FormatInt(int64(ttl/time.Second), 10)
	}
	site := orString(m.GetSameSite(), "lax")
	c.attributes += "; HttpOnly; SameSite=" + strings.ToUpper(site[:1]) + site[1:]
	if c.secure = "; Secure"; site == "none" {
		c.attributes, c.secure = c.attributes+c.secure, ""
	}
	return c
}

// AppendAttributes appends what follows the value in the field Set-Cookie for a client that uses a scheme.
func (c *Cookie) AppendAttributes(b []byte, scheme string) []byte {
	b = append(b, c.attributes...)
	if scheme == "https" {
		b = append(b, c.secure...)
	}
	return b
}

// clientCookie checks a cookie that nodes give to clients.
func (c *checker) clientCookie(at string, m *configv1.ClientCookie) {
	if !token.MatchString(m.GetName()) {
		c.fail(at+".name", m.GetName(), "has to be a token of 1 to 128 characters such as backend")
	}
	c.duration(at+".ttl", m.GetTtl(), time.Second, maxCookieTTL)
	if p := m.GetPath(); p != "" && (p[0] != '/' || len(p) > maxLabelLength || !cookieValue(p)) {
		c.fail(at+".path", p, `has to start with "/", up to %d visible ASCII characters without ";"`, maxLabelLength)
	}
	if d := m.GetDomain(); d != "" {
		if _, err := hostname.Parse(d); err != nil || strings.Contains(d, "*") {
			c.fail(at+".domain", d, "has to be a host such as example.com")
		}
	}
	if hasHostPrefix(m.GetName()) && (m.GetDomain() != "" || orString(m.GetPath(), "/") != "/") {
		c.fail(at+".name", m.GetName(),
			"is for a cookie with the path \"/\" and no domain: clients refuse others of this name")
	}
	c.oneOf(at+".same_site", m.GetSameSite(), "lax", "strict", "none")
}

// hasHostPrefix reports whether a cookie's name begins with __Host-, in any case (RFC 6265bis section 5.7).
func hasHostPrefix(name string) bool {
	const prefix = "__Host-"
	return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

// cookieValue reports whether a text may be the value of a cookie's attribute (RFC 6265 section 4.1.1).
func cookieValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ';' })
}
