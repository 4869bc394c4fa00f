package runtime

import (
	"strings"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/match"
)

// redirect is a route's, compiled.
type redirect struct {
	status     int
	to         *match.Redirect
	path       []config.TemplatePart // nil: the request's
	stripQuery bool
}

// answer makes the response. Where the table could tell that a request would be led to where it came from, it has gone to another route; what only the
// parameters of its path tell is an error.
func (r *redirect) answer(x *exchange.Exchange) {
	path := x.Request.Path
	if r.path != nil {
		path = expand(r.path, x)
	}
	if r.to.LeadsBack(&x.Match, path) {
		x.Fail(fault.LoopDetected, "the route redirects this request to where it came from")
		return
	}
	scheme, host, port, ok := r.to.Base(x.Scheme, x.Request.Host)
	var b strings.Builder
	switch {
	case ok:
		b.WriteString(scheme)
		b.WriteString("://")
		b.WriteString(host)
		if port != "" {
			b.WriteByte(':')
			b.WriteString(port)
		}
	case scheme != x.Scheme || port != "" || strings.HasPrefix(path, "//"):
		x.Fail(fault.BadRequest, "the request names no host, and the route's redirect needs one")
		return
	}
	b.WriteString(path) // without a host a reference to the same one (RFC 9110 section 10.2.2)
	if x.Request.HasQuery && !r.stripQuery {
		b.WriteByte('?')
		b.WriteString(x.Request.RawQuery)
	}
	x.Answer(r.status, "", nil)
	x.Response.Header.Add("Location", b.String())
}
