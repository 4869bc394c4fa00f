package match

import (
	"slices"
	"strconv"
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/hostname"
)

// Redirect says where a route's redirect leads. It is immutable.
type Redirect struct {
	scheme, host, port string // empty: the request's
	path               string // empty: the request's, or with parameters
	fixed              bool   // the path has no parameters
	strip              bool
}

// NewRedirect returns the redirect of a route; r may be nil.
func NewRedirect(r *configv1.Redirect) *Redirect {
	d := &Redirect{
		scheme: r.GetScheme(), path: r.GetPath(), fixed: !strings.ContainsAny(r.GetPath(), "{}"), strip: r.GetStripQuery(),
	}
	d.host, d.port = splitPort(r.GetHost())
	if r.GetPort() != 0 {
		d.port = strconv.FormatUint(uint64(r.GetPort()), 10)
	}
	return d
}

// schemeAlone reports whether the redirect changes nothing but the scheme.
func (d *Redirect) schemeAlone() bool {
	return d.scheme != "" && d.host == "" && d.port == "" && d.path == "" && !d.strip
}

// Base returns where the redirect leads without the path, for a request of a scheme and an authority: a scheme and an
// authority. The port is left out where it is the scheme's own. ok is false when the redirect needs to know the
// request's host, and there is none.
func (d *Redirect) Base(scheme, authority string) (toScheme, host, port string, ok bool) {
	host, port = splitPort(authority)
	if d.scheme != "" && d.scheme != scheme {
		scheme, port = d.scheme, ""
	}
	if d.host != "" {
		host = d.host
	}
	if d.port != "" {
		port = d.port
	}
	if port == ownPort(scheme) {
		port = ""
	}
	return scheme, host, port, host != ""
}

// LeadsBack reports whether a request is led to where it came from. path is what the redirect makes of the request's.
func (d *Redirect) LeadsBack(q *Request, path string) bool {
	if path != q.Path || d.strip && q.RawQuery != "" || q.Scheme == "" {
		return false
	}
	scheme, host, port, _ := d.Base(q.Scheme, q.Host)
	hostNow, portNow := splitPort(q.Host)
	if portNow == ownPort(q.Scheme) {
		portNow = ""
	}
	if scheme != q.Scheme || port != portNow {
		return false
	}
	if d.host == "" {
		return true
	}
	var a, b hostname.Buffer
	return string(hostname.Key(&a, host)) == string(hostname.Key(&b, hostNow))
}

// LeadsBack reports whether it is certain that the rule's redirect changes nothing of the requests that the rule is
// for, but perhaps their port.
func (r *Rule) LeadsBack() bool {
	d := r.redirect
	if d == nil || d.strip || d.port != "" || d.scheme != "" && r.schemes != schemeBit(d.scheme) {
		return false
	}
	if d.path != "" && (r.form != Exact && r.form != Parameter || r.spelling != d.path) {
		return false
	}
	if d.host == "" {
		return d.path != "" || d.scheme != ""
	}
	host, err := hostname.Parse(d.host)
	return err == nil && len(r.hosts) == 1 && r.hosts[0] == host
}

// skips is LeadsBack for what can be told before the path's parameters are known.
func (d *Redirect) skips(q *Request) bool {
	switch {
	case !d.fixed:
		return false
	case d.path != "":
		return d.LeadsBack(q, d.path)
	}
	return d.LeadsBack(q, q.Path)
}

// takesAllOf reports whether it is certain that no request of o is led to where it came from.
func (d *Redirect) takesAllOf(o *Rule) bool {
	switch {
	case !d.fixed,
		d.scheme != "" && o.schemes != 0 && o.schemes&schemeBit(d.scheme) == 0,
		d.path != "" && o.form == Exact && !o.spells(o.path, d.path):
		return true
	case d.host == "" || len(o.hosts) == 0:
		return false
	}
	var b hostname.Buffer
	key := string(hostname.Key(&b, d.host))
	return !slices.ContainsFunc(o.hosts, func(h hostname.Pattern) bool { return h.Matches(key) })
}

func ownPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// splitPort takes the port off an authority. Brackets stay.
func splitPort(authority string) (host, port string) {
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.IndexByte(authority[i:], ']') < 0 {
		return authority[:i], authority[i+1:]
	}
	return authority, ""
}
