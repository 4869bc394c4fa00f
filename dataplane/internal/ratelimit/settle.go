package ratelimit

import (
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// Settle gives back what an exchange that ends has taken, where the gateway has turned it away without the client's
// doing, and no service has been asked: by another limit, or since something that the gateway needs failed. code is the
// exchange's, and tried how many connections to services have been asked for. All limits are settled by this rule.
func (t *Taken) Settle(x *exchange.Exchange, code fault.Code, tried int) {
	if t != nil && turnedAway(code, tried) {
		t.giveBack(x)
	}
}

// turnedAway reports whether an exchange has come to nothing, and not by what its client has sent. Who sends wrong
// credentials, or too much, has used what was taken: limits are there to slow that down too. So is an error that the
// configuration asks for.
func turnedAway(code fault.Code, tried int) bool {
	switch code {
	case fault.RateLimited, fault.Overloaded, fault.NotReady, fault.ServiceNotFound, fault.InvalidRoute,
		fault.NoHealthyEndpoints, fault.CircuitOpen, fault.UpstreamOverloaded:
		return true // no service was asked, or none that had a place for it
	case fault.UpstreamUnavailable, fault.PipelineTimeout, fault.Internal:
		return tried == 0 // of a step's, or what steps ask
	default:
		return false
	}
}
