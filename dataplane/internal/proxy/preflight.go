package proxy

import (
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/shared/match"
)

// preflight finds the route of a CORS preflight, which is that of the request that it asks about, where that answers preflights (Fetch standard,
// CORS-preflight fetch). found is the route for OPTIONS, or nil: it keeps what is for it by name, unless the other one's path goes before.
func preflight(table *match.Table, x *exchange.Exchange, found *match.Rule) *match.Rule {
	if _, from := x.Request.Header.Known(exchange.Origin); !from {
		return found
	}
	method, ok := x.Request.Header.Lookup("Access-Control-Request-Method")
	if !ok {
		return found
	}
	x.Match.Method = method
	asked := table.Match(&x.Match, &x.Params)
	x.Match.Method = x.Request.Method
	if asked == nil || !asked.Value.(*runtime.Route).Preflights || found != nil && len(found.Methods()) > 0 && !asked.PathBefore(found) {
		return table.Match(&x.Match, &x.Params) // for the parameters
	}
	x.RouteMethods = asked.Value.(*runtime.Route).Methods
	return asked
}
