// Package csrf is the middleware type "csrf": it refuses requests that pages of other origins make browsers send.
package csrf

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/origin"
	"gateway.internal/dataplane/internal/pathrule"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	s, ok := settings.(*middlewarev1.Csrf)
	if !ok {
		return nil, fmt.Errorf("csrf: settings are a %T", settings)
	}
	excluded, err := pathrule.CompileList("exclude_paths", s.GetExcludePaths())
	if err != nil {
		return nil, fmt.Errorf("csrf: %w", err)
	}
	var metrics *telemetry.Set
	if env != nil {
		metrics = env.Metrics
	}
	refused := func(by string) *telemetry.Counter {
		return metrics.Counter("refused_total", "Requests that a page of another origin has sent, by the field that said so.",
			"by", by)
	}
	return &step{
		trusted: origin.Compile(s.GetTrustedOrigins()), excluded: excluded,
		bySite: refused("sec-fetch-site"), byOrigin: refused("origin"),
	}, nil
}

type step struct {
	trusted  origin.Set
	excluded *pathrule.List

	bySite, byOrigin *telemetry.Counter
}

// Request refuses what another origin's page has sent. Browsers say where a request comes from in fields that scripts
// can't set: all of them in Origin, those since 2023 in Sec-Fetch-Site. What sends neither is no browser, which nobody
// can make send a cookie that is not its own.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	if safe(&x.Request) || s.excluded.Has(x) {
		return exchange.Continue
	}
	h := &x.Request.Header
	site, siteSaid, twice := one(h, "Sec-Fetch-Site")
	from, fromSaid, again := one(h, "Origin")
	switch {
	case twice || again: // by no browser
		return s.refuse(x, s.byOrigin)
	case site == "same-origin" || site == "none": // none: by the user's own hand
		return exchange.Continue
	case fromSaid && s.trusted.Has(from):
		return exchange.Continue
	case siteSaid:
		return s.refuse(x, s.bySite)
	case !fromSaid || origin.Same(from, x.Request.Host):
		return exchange.Continue
	}
	return s.refuse(x, s.byOrigin)
}

func (s *step) refuse(x *exchange.Exchange, by *telemetry.Counter) exchange.Verdict {
	by.Add(1)
	x.Fail(fault.Forbidden, "a page of another origin may not send this request")
	return exchange.Stop
}

// Response implements pipeline.Step.
func (*step) Response(*exchange.Exchange) {}

// safe reports whether a request changes nothing (RFC 9110 section 9.2.1). A WebSocket begins with a GET, but what
// comes after it is anything, and browsers let pages of all origins open one.
func safe(r *exchange.Request) bool {
	if r.Upgrade != "" {
		return false
	}
	return r.Method == "GET" || r.Method == "HEAD" || r.Method == "OPTIONS"
}

// one returns the value of a field that may be there once.
func one(h *exchange.Header, name string) (value string, there, twice bool) {
	for v := range h.Values(name) {
		if there {
			return value, true, true
		}
		value, there = v, true
	}
	return value, there, false
}
