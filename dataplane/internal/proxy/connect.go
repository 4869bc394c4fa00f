package proxy

import (
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// A CONNECT goes through the same steps as every request: a route is matched by the host that the client names, and the service's balancer
// chooses the endpoint. Whatever the client names, it is never an address that is connected to.

const connectRefused = "CONNECT is not supported"

// admitConnect reports whether the client may have a tunnel, and otherwise sets the response.
func admitConnect(x *exchange.Exchange, limits *config.Limits) bool {
	if limits.AllowConnect() {
		return true
	}
	x.Fail(fault.NotImplemented, connectRefused)
	return false
}

// failUnmatched sets the response of a request that no route matches.
func failUnmatched(x *exchange.Exchange) {
	if x.Request.Method == "CONNECT" {
		x.Fail(fault.NotImplemented, connectRefused)
		return
	}
	x.Fail(fault.RouteNotFound, "no route matches this request")
}
