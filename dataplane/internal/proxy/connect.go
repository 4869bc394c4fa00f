package proxy

import (
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/config"
	"gateway.internal/shared/routing"
)

// A CONNECT goes through the same steps as every request: a route is matched by the host that the client names, and the
// service's balancer chooses the endpoint. Whatever the client names, it is never an address that is connected to.

// admitConnect reports whether the client may have a tunnel, and otherwise sets the response.
func admitConnect(x *exchange.Exchange, limits *config.Limits) bool {
	why := routing.AdmitsConnect(limits)
	if why != nil {
		x.Fail(why.Code, why.Reason)
	}
	return why == nil
}
