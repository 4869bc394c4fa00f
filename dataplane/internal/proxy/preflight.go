package proxy

import (
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/shared/match"
)

// preflight finds the route of a CORS preflight, which is that of the request that it asks about, where that answers preflights (Fetch standard,
// CORS-preflight fetch). found is the route for OPTIONS, or nil: it keeps what is for it by name, unless the other one's path goes before. refused is
// why there is none, and sent the path as it came.
func (p *Proxy) preflight(snapshot *runtime.Snapshot, x *exchange.Exchange, sent string, found *match.Rule, refused string) (*match.Rule, string) {
	if _, from := x.Request.Header.Known(exchange.Origin); !from {
		return found, refused
	}
	method, ok := x.Request.Header.Lookup("Access-Control-Request-Method")
	if !ok {
		return found, refused
	}
	x.Match.Method, x.Request.Path = method, sent
	asked, _ := p.match(snapshot, x)
	x.Match.Method = x.Request.Method
	if asked == nil || !asked.Value.(*runtime.Route).Preflights || found != nil && len(found.Methods()) > 0 && !asked.PathBefore(found) {
		x.Request.Path = sent
		return p.match(snapshot, x) // for the parameters, and the form of the path
	}
	x.RouteMethods = asked.Value.(*runtime.Route).Methods
	return asked, ""
}
