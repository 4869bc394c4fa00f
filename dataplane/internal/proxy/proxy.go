// Package proxy takes an exchange through its life: match a route, run the request phase, send it to an endpoint, run
// the response phase, stream the bodies, count. Each of these is done elsewhere; here is only the order.
package proxy

import (
	"math/rand/v2"
	"time"

	"gateway.internal/dataplane/internal/accesslog"
	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/overload"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/via"
)

// Proxy serves exchanges by the runtime's snapshot. It implements codec.LoopHandler.
type Proxy struct {
	runtime *runtime.Runtime
	nowhere *telemetry.Route // counts what no route matched
	log     *accesslog.Log
	panics  *telemetry.Panics
	headers HeaderSettings
	via     *via.Node
	// upgrades counts the exchanges that have gone over to another protocol.
	upgrades *telemetry.Upgrades
	overload *overload.Controller
	chance   chance
}

// chance makes the random numbers that decide where requests go. Tests replace it.
type chance struct {
	// share returns a number below n, for the choice of a backend.
	share func(n uint32) uint32
	// fraction returns a number from 0 and below 1, for the share of requests that is mirrored.
	fraction func() float64
}

var _ codec.LoopHandler = (*Proxy)(nil)

// New returns a proxy that is a node to the requests that pass it, and writes to an access log, unless that is nil.
func New(rt *runtime.Runtime, counters *telemetry.Registry, node *via.Node, log *accesslog.Log) *Proxy {
	return &Proxy{
		runtime: rt, nowhere: counters.Route(telemetry.Key{}), via: node, panics: rt.Panics(), log: log,
		upgrades: counters.Upgrades(), chance: chance{rand.Uint32N, rand.Float64},
	}
}

// HeaderSettings say what becomes of fields of requests that might be mistaken for others, or are believed. The zero
// value is the default.
type HeaderSettings struct {
	// Names is for fields with odd names. Those of requests to gRPC services are kept: metadata has such names, and no CGI
	// reads it.
	Names exchange.NameRule
	// RequestIDs is for X-Request-Id.
	RequestIDs exchange.RequestIDRule
}

// Headers makes other settings hold. It is called before the first Serve.
func (p *Proxy) Headers(s HeaderSettings) *Proxy {
	p.headers = s
	return p
}

// Overload has a controller turn requests away. It is called before the first Serve.
func (p *Proxy) Overload(c *overload.Controller) *Proxy {
	p.overload = c
	return p
}

// Serve takes x from its head to the last byte of its response.
func (p *Proxy) Serve(x *exchange.Exchange) {
	t := p.begin(x)
	t.guard((*transaction).serve)
	t.end()
}

// Panicked implements codec.PanicHandler.
func (p *Proxy) Panicked(what, route string, v any) { p.panics.Caught(what, route, v) }

func (p *Proxy) write(
	snapshot *runtime.Snapshot, x *exchange.Exchange, done *telemetry.Done, duration time.Duration, attempts int,
) {
	r := accesslog.Record{
		Exchange: x, Duration: duration, Upstream: done.Upstream, Attempts: attempts,
		ResponseBytes: done.ResponseBytes, RequestBytes: done.RequestBytes,
	}
	if snapshot != nil {
		r.Revision = snapshot.Revision
	}
	p.log.Write(&r)
}
