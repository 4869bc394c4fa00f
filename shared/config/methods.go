package config

import (
	"fmt"
	"slices"
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/suggest"
)

// registeredMethods are those of IANA's registry of HTTP methods.
var registeredMethods = []string{
	"ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LABEL", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR",
	"MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "OPTIONS", "ORDERPATCH", "PATCH", "POST", "PRI", "PROPFIND", "PROPPATCH", "PUT", "QUERY", "REBIND", "REPORT", "SEARCH",
	"TRACE", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL",
}

// normaliseMethods writes registered methods in their own letters. Methods are case-sensitive (RFC 9110 section 9.1), so that "get" would match no request
// that means GET.
func normaliseMethods(r *configv1.Route) {
	r.Method = normalMethod(r.GetMethod())
	for i, m := range r.GetMethods() {
		r.Methods[i] = normalMethod(m)
	}
}

func normalMethod(m string) string {
	if upper := strings.ToUpper(m); slices.Contains(registeredMethods, upper) {
		return upper
	}
	return m
}

// warnMethods finds methods that are not registered: they may be meant, or mistyped.
func warnMethods(w *Problems, r *configv1.Route) {
	warn := func(field, m string) {
		if m == "" || m == "*" || slices.Contains(registeredMethods, m) {
			return
		}
		hint := ""
		if near := suggest.Nearest(strings.ToUpper(m), slices.Values(registeredMethods)); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		w.add(Route, r.GetName(), "", field, m, "is no registered HTTP method%s", hint)
	}
	warn("method", r.GetMethod())
	for i, m := range r.GetMethods() {
		warn(fmt.Sprintf("methods[%d]", i), m)
	}
}
