package runtime

import (
	"unsafe"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/routing"
)

// Forward sets what the service is to see of the request's target. node are the node's rules for paths. Where it
// reports false, x has a response.
func (r *Route) Forward(x *exchange.Exchange, node *pathnorm.Rules) bool {
	w := r.Rewrite
	if w == nil {
		return true
	}
	x.Forward.Host, x.Forward.OwnHost = w.Host, w.OwnHost
	forward, refused := r.ForwardPath(node, x.Request.Path, &x.Params, &x.Texts, &x.Memory[1])
	if refused != "" {
		x.Fail(fault.BadRequest, routing.Rewritten+refused)
		return false
	}
	x.Forward.Path = forward
	r.tellPrefix(x)
	return true
}

const forwardedPrefix = "X-Forwarded-Prefix"

// tellPrefix tells the service what the rewriting has taken away. Where a middleware has decided what the field says,
// that holds.
func (r *Route) tellPrefix(x *exchange.Exchange) {
	h := &x.Request.Header
	if _, is := r.Rewrite.Prefix(); !is || x.Forwarded.OmitXForwarded || h.Decides(forwardedPrefix) {
		return
	}
	before, _ := h.Known(exchange.XForwardedPrefix)
	if taken := r.Rewrite.ForwardedPrefix(x.Request.Path, &x.Params, before, &x.Texts); taken != "" {
		h.Set(forwardedPrefix, taken)
	}
}

// join puts a text together that lives as long as the exchange.
func join(x *exchange.Exchange, parts ...string) string {
	start := len(x.Texts)
	for _, p := range parts {
		x.Texts = append(x.Texts, p...)
	}
	b := x.Texts[start:]
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// Introduce tells a client in the response what it is to be known by; see routing.Sticky.
func (r *Route) Introduce(x *exchange.Exchange, id routing.ClientID) {
	start := len(x.Texts)
	x.Texts = r.Split.Sticky.AppendCookie(x.Texts, id, x.Scheme)
	b := x.Texts[start:]
	x.Response.Header.Add("Set-Cookie", unsafe.String(unsafe.SliceData(b), len(b)))
}
