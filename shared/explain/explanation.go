package explain

import (
	"strings"

	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/match"
	"gateway.internal/shared/routing"
)

// Explanation is what a node does with a request. What does not happen is left out.
type Explanation struct {
	// TLS is what the client meets over https.
	TLS *TLS `json:"tls,omitempty" yaml:"tls,omitempty,flow"`
	// Route is the name of the route, and Pattern its path.
	Route   string `json:"route,omitempty" yaml:"route,omitempty"`
	Pattern string `json:"pattern,omitempty" yaml:"pattern,omitempty"`
	// Preflight tells that it is the route of the request which a CORS preflight asks about.
	Preflight bool `json:"preflight,omitempty" yaml:"preflight,omitempty"`
	// Path is the path in the form that the route sees.
	Path string `json:"path,omitempty" yaml:"path,omitempty"`
	// Parameters are those of the path.
	Parameters map[string]string `json:"parameters,omitempty" yaml:"parameters,omitempty,flow"`
	// Service is that of the backend which is chosen, and Pipelines those that run for it, first to last.
	Service   string     `json:"service,omitempty" yaml:"service,omitempty"`
	Pipelines []Pipeline `json:"pipelines,omitempty" yaml:"pipelines,omitempty"`
	// Backends are all of the route, where there are several.
	Backends []Backend `json:"backends,omitempty" yaml:"backends,omitempty,flow"`
	// SetCookie is the field that leads the client's next requests to the same backend; empty: it is not sent.
	SetCookie string `json:"set_cookie,omitempty" yaml:"set_cookie,omitempty"`
	// Priority is the request's, where the node has too much to do; empty: "normal".
	Priority string `json:"priority,omitempty" yaml:"priority,omitempty"`
	// Upstream is what the service sees of the target; nil for a CONNECT, of which it gets the tunnel alone.
	Upstream *Upstream `json:"upstream,omitempty" yaml:"upstream,omitempty,flow"`
	// Mirror is the service that gets a copy of this request, and MirrorPercent how many of a hundred requests are copied;
	// 0: all.
	Mirror        string  `json:"mirror,omitempty" yaml:"mirror,omitempty"`
	MirrorPercent float64 `json:"mirror_percent,omitempty" yaml:"mirror_percent,omitempty"`
	// Response is the node's own, where no service is asked.
	Response *Response `json:"response,omitempty" yaml:"response,omitempty,flow"`
}

// TLS is what a host's clients meet.
type TLS struct {
	// Certificates are offered in this order; none: the handshake is refused.
	Certificates []string `json:"certificates,omitempty" yaml:"certificates,omitempty"`
	// MinVersion is the lowest version: "1.2" or "1.3".
	MinVersion string `json:"min_version,omitempty" yaml:"min_version,omitempty"`
	// ClientCertificate is "optional" or "required"; empty: clients are not asked.
	ClientCertificate string `json:"client_certificate,omitempty" yaml:"client_certificate,omitempty"`

	policy routing.ClientPolicy
}

// Pipeline is a pipeline with its middleware that is enabled.
type Pipeline struct {
	Name string `json:"name" yaml:"name"`
	// For is what it runs for: all routes, a service or a route.
	For routing.Level `json:"for" yaml:"for"`
	// Parallel tells that the request phases of its steps run together.
	Parallel bool `json:"parallel,omitempty" yaml:"parallel,omitempty"`
	// TimeoutMS is the longest that they may take, in milliseconds; 0: any time.
	TimeoutMS uint32 `json:"timeout_ms,omitempty" yaml:"timeout_ms,omitempty"`
	// Steps are in the order of the request phases.
	Steps []Step `json:"steps" yaml:"steps,flow"`
}

// Step is one middleware.
type Step struct {
	Name string `json:"name" yaml:"name"`
	Type string `json:"type" yaml:"type"`
}

// Backend is one of several services that share the traffic of a route.
type Backend struct {
	Service string `json:"service" yaml:"service"`
	// Probability is from 0 to 1: that of requests which none of the route's backends matches.
	Probability float64 `json:"probability" yaml:"probability"`
}

// Upstream is what a service sees of a request's target.
type Upstream struct {
	// Method is the request's.
	Method string `json:"method" yaml:"method"`
	// Target is the path with its query.
	Target string `json:"target" yaml:"target"`
	// Host is the field Host; empty where OwnHost tells that it is that of the endpoint which is asked.
	Host    string `json:"host,omitempty" yaml:"host,omitempty"`
	OwnHost bool   `json:"own_host,omitempty" yaml:"own_host,omitempty"`
	// Prefix is the field X-Forwarded-Prefix; empty: it is not sent. A middleware may decide otherwise.
	Prefix string `json:"x_forwarded_prefix,omitempty" yaml:"x_forwarded_prefix,omitempty"`
}

// Response is a node's own response.
type Response struct {
	Status int `json:"status" yaml:"status"`
	// Code and Reason are those of an error.
	Code   fault.Code `json:"code,omitempty" yaml:"code,omitempty"`
	Reason string     `json:"reason,omitempty" yaml:"reason,omitempty"`
	// Location is where a redirect leads.
	Location string `json:"location,omitempty" yaml:"location,omitempty"`
	// Allow is the field Allow of an answer to OPTIONS.
	Allow string `json:"allow,omitempty" yaml:"allow,omitempty"`
	// Body is a fixed response's.
	Body string `json:"body,omitempty" yaml:"body,omitempty"`
}

func refusal(code fault.Code, reason string) *Response {
	return &Response{Status: code.HTTP(), Code: code, Reason: reason}
}

func refusalOf(e *fault.Error) *Response { return refusal(e.Code, e.Reason) }

// Explain says what happens to a request of a client that is no trusted proxy. A head that the codecs refuse is not for
// it. Nor are Upgrade, Max-Forwards, and what is said of the body.
func (c *Compiled) Explain(h *Head) *Explanation {
	e := &Explanation{}
	host := c.tlsOf(h.Host)
	if h.Scheme == "https" {
		if e.TLS = host; host == nil || len(host.Certificates) == 0 {
			e.TLS = &TLS{}
			return e
		}
	}
	if h.Path == "*" {
		e.Response = &Response{Status: 200, Allow: routing.AnyMethod}
		return e
	}
	var memory routing.Memory
	var params match.Params
	q := match.Request{
		Method: h.Method, Host: h.Host, Scheme: h.Scheme, Port: h.Port, RawQuery: h.RawQuery, Header: h,
	}
	found := c.tables.Find(&q, h.Path, &params, &memory)
	switch {
	case found.Refused != "":
		e.Response = refusal(fault.BadRequest, found.Refused)
		return e
	case c.asks && c.misdirected(host, h, found.Rule):
		e.Response = refusalOf(routing.ErrMisdirected)
		return e
	case found.Rule == nil:
		e.Response = refusalOf(routing.Unmatched(h.Method))
		return e
	}
	r := found.Rule.Value.(*route)
	e.Route, e.Pattern, e.Preflight, e.Path = r.Name, r.message.GetPath(), found.Preflight, strings.Clone(found.Path)
	e.Parameters = parameters(found.Rule, &params)
	if e.Response = c.serve(e, h, r, &q, &params, &memory); e.Response != nil {
		e.Upstream, e.SetCookie = nil, "" // clients are told with a service's response
	}
	return e
}

func (c *Compiled) misdirected(host *TLS, h *Head, rule *match.Rule) bool {
	if host == nil || rule != nil && rule.Value.(*route).Challenge {
		return false
	}
	return host.policy.Misdirects(h.Scheme == "https", host.policy.ID)
}

func parameters(rule *match.Rule, params *match.Params) map[string]string {
	var all map[string]string
	for _, name := range rule.ParamNames() {
		if v, ok := params.Get(name); ok {
			if all == nil {
				all = map[string]string{}
			}
			all[name] = strings.Clone(v)
		}
	}
	return all
}

// serve explains what comes after a route has been found, and returns the node's own response; nil: there is none.
func (c *Compiled) serve(
	e *Explanation, h *Head, r *route, q *match.Request, params *match.Params, memory *routing.Memory,
) *Response {
	choice := r.Split.Choose(q, &h.Client, func(n uint32) uint32 { return h.Random % n })
	b := &r.backends[choice.Share]
	e.Service = b.service
	if len(r.backends) > 1 {
		for i := range r.backends {
			e.Backends = append(e.Backends, Backend{r.backends[i].service, r.Split.Probability(i)})
		}
	}
	if p := b.limits.ByGroup.Of(h.Client.Groups, b.limits.Priority); p != config.PriorityNormal {
		e.Priority = p.String()
	}
	if choice.ID != 0 {
		e.SetCookie = string(r.Split.Sticky.AppendCookie(nil, choice.ID, h.Scheme))
	}
	if why := r.Admits(h.targetBytes()); why != nil {
		return refusalOf(why)
	}
	if h.Method == "CONNECT" {
		if why := routing.AdmitsConnect(&b.limits); why != nil {
			return refusalOf(why)
		}
	}
	e.Pipelines = b.pipelines
	switch {
	case r.Direct != nil:
		return &Response{Status: r.Direct.Status, Body: string(r.Direct.Body)}
	case r.Redirect != nil:
		location, refused := r.Redirect.Location(q, h.HasQuery, params)
		if refused != nil {
			return refusalOf(refused)
		}
		return &Response{Status: r.Redirect.Status, Location: location}
	}
	if h.Method == "CONNECT" { // a tunnel: nothing of the request goes on
		return nil
	}
	var texts []byte
	forward, refused := r.ForwardPath(c.tables.Paths, e.Path, params, &texts, &memory[1])
	if refused != "" {
		return refusal(fault.BadRequest, routing.Rewritten+refused)
	}
	e.Upstream = &Upstream{Method: h.Method, Target: e.Path, Host: h.Host}
	if forward != "" {
		e.Upstream.Target = strings.Clone(forward)
	}
	if h.HasQuery {
		e.Upstream.Target += "?" + h.RawQuery
	}
	if w := r.Rewrite; w != nil {
		if w.Host != "" || w.OwnHost {
			e.Upstream.Host, e.Upstream.OwnHost = w.Host, w.OwnHost
		}
		e.Upstream.Prefix = strings.Clone(w.ForwardedPrefix(e.Path, params, "", &texts))
	}
	if r.Mirror != nil && r.Mirror.Takes(h.Fraction) {
		e.Mirror = r.mirror
		if r.Mirror.Percent < 100 {
			e.MirrorPercent = r.Mirror.Percent
		}
	}
	return nil
}

// targetBytes returns the length of path and query as they are sent.
func (h *Head) targetBytes() int {
	n := len(h.Path) + len(h.RawQuery)
	if h.HasQuery {
		n++
	}
	return n
}
