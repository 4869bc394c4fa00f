package routing

import (
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/match"
)

// Redirect is a route's redirect. It is immutable.
type Redirect struct {
	// Status is the response's.
	Status int

	to         *match.Redirect
	path       []config.TemplatePart // nil: the request's
	stripQuery bool
}

func newRedirect(rd *configv1.Redirect, rule *match.Rule) (*Redirect, error) {
	r := &Redirect{Status: int(rd.GetStatus()), to: match.NewRedirect(rd), stripQuery: rd.GetStripQuery()}
	if r.Status == 0 {
		r.Status = 302
	}
	var err error
	if rd.GetPath() != "" {
		r.path, err = config.ParseTemplate(rd.GetPath(), rule.ParamNames())
	}
	return r, err
}

// The reasons why a redirect leads nowhere.
var (
	errLeadsBack = &fault.Error{
		Code: fault.LoopDetected, Reason: "the route redirects this request to where it came from",
	}
	errNoHost = &fault.Error{
		Code: fault.BadRequest, Reason: "the request names no host, and the route's redirect needs one",
	}
)

// Location returns where a request is led that has matched. hasQuery tells that the request has a query, be it empty.
// Where the table could tell that a request would be led to where it came from, it has gone to another route; what only
// the parameters of its path tell is an error.
func (r *Redirect) Location(q *match.Request, hasQuery bool, params *match.Params) (string, *fault.Error) {
	path := q.Path
	if r.path != nil {
		path, _ = expand(nil, r.path, params)
	}
	if r.to.LeadsBack(q, path) {
		return "", errLeadsBack
	}
	scheme, host, port, ok := r.to.Base(q.Scheme, q.Host)
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
	case scheme != q.Scheme || port != "" || strings.HasPrefix(path, "//"):
		return "", errNoHost
	}
	b.WriteString(path) // without a host a reference to the same one (RFC 9110 section 10.2.2)
	if hasQuery && !r.stripQuery {
		b.WriteByte('?')
		b.WriteString(q.RawQuery)
	}
	return b.String(), nil
}
