package routing

import (
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// The errors that a node answers requests with which go no further.
var (
	// ErrNoRoute is of a request that no route takes.
	ErrNoRoute = &fault.Error{Code: fault.RouteNotFound, Reason: "no route matches this request"}
	// ErrConnect is of a CONNECT that no route takes, or whose route does not let clients open tunnels.
	ErrConnect = &fault.Error{Code: fault.NotImplemented, Reason: "CONNECT is not supported"}
	// ErrMisdirected is of a request over a connection that was opened for a host which asks clients for another
	// certificate.
	ErrMisdirected = &fault.Error{
		Code: fault.Misdirected, Reason: "this host asks for another client certificate than the connection has proved",
	}
	// ErrTargetTooLong is of a request whose target is longer than its route allows.
	ErrTargetTooLong = &fault.Error{
		Code: fault.URITooLong, Reason: "the request target is longer than the route allows",
	}
)

// Rewritten goes before the reason why a path is refused that a rewrite has put together.
const Rewritten = "once it is rewritten, "

// Unmatched returns the error of a request that no route takes.
func Unmatched(method string) *fault.Error {
	if method == "CONNECT" {
		return ErrConnect
	}
	return ErrNoRoute
}

// Admits returns why a route does not take a request that has matched: for the length of its target in bytes, as it was
// sent; nil: it does.
func (r *Route) Admits(targetBytes int) *fault.Error {
	if r.MaxTargetBytes > 0 && targetBytes > r.MaxTargetBytes {
		return ErrTargetTooLong
	}
	return nil
}

// AdmitsConnect returns why a CONNECT is refused under the limits of its route; nil: it is not.
func AdmitsConnect(limits *config.Limits) *fault.Error {
	if limits.AllowConnect() {
		return nil
	}
	return ErrConnect
}
