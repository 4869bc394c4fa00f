// Package method knows the registered methods of HTTP: what the configuration names in other letters means them, and
// others may be mistyped.
package method

import (
	"slices"
	"strings"

	"gateway.internal/shared/suggest"
)

// registered are those of IANA's registry of HTTP methods.
var registered = []string{
	"ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD",
	"LABEL", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE",
	"MOVE", "OPTIONS", "ORDERPATCH", "PATCH", "POST", "PRI", "PROPFIND", "PROPPATCH", "PUT", "QUERY", "REBIND",
	"REPORT", "SEARCH", "TRACE", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF",
	"VERSION-CONTROL",
}

// Registered reports whether m is a registered method. Methods are case-sensitive (RFC 9110 section 9.1).
func Registered(m string) bool { return slices.Contains(registered, m) }

// Normal writes a registered method in its own letters, since "get" would match no request that means GET, and others
// as they are.
func Normal(m string) string {
	if upper := strings.ToUpper(m); Registered(upper) {
		return upper
	}
	return m
}

// Hint is what follows the news that a method is not registered: which one was probably meant, or nothing.
func Hint(m string) string { return suggest.Hint(strings.ToUpper(m), slices.Values(registered)) }
