// Package injection makes requests late, and answers them with errors, as a configuration asks for, so that users see
// what their clients do then. It decides; what it answers is told apart from real errors by its code.
package injection

import (
	"math"
	"strconv"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/telemetry"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/match"
)

// Fault is what a route does to some of its requests. It is immutable, and safe for concurrent use.
type Fault struct {
	fields         match.Fields
	delay          time.Duration
	delayed, ended float64 // shares, from 0 to 1
	status, grpc   int     // grpc is negative where the code decides
	count          *counters
}

type counters struct{ delays, aborts *telemetry.Counter }

func newCounters(sets *telemetry.Sets, route string) *counters {
	set := sets.Of("gateway_faults_", "route", route)
	injected := func(kind string) *telemetry.Counter {
		return set.Counter("injected_total", "Requests that were made late (delay), or answered with an error (abort), "+
			"since the configuration asks for it.", "kind", kind)
	}
	return &counters{delays: injected("delay"), aborts: injected("abort")}
}

// New returns the fault of a message that was validated, of a route; nil: there is none. Its metrics are in sets.
func New(m *configv1.Fault, route string, sets *telemetry.Sets) (*Fault, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // most routes have none
	}
	fields, errs := match.ParseFields("fault.headers", m.GetHeaders())
	if len(errs) > 0 {
		return nil, &fault.Error{Code: fault.InvalidRoute, Reason: errs[0].Field + " " + errs[0].Message}
	}
	f := &Fault{fields: fields, grpc: -1, count: newCounters(sets, route)}
	if d := m.GetDelay(); d != nil {
		f.delay, _ = config.ParseDuration(d.GetFixed())
		f.delayed = shareOf(d.Percent)
	}
	if a := m.GetAbort(); a != nil {
		f.ended, f.status = shareOf(a.Percent), int(a.GetStatus())
		if f.status == 0 {
			f.status = fault.Injected.HTTP()
		}
		if a.GrpcStatus != nil {
			f.grpc = int(a.GetGrpcStatus())
		}
	}
	return f, nil
}

func shareOf(percent *float64) float64 {
	if percent == nil {
		return 1
	}
	return math.Min(*percent/100, 1)
}

// Drawn is what happens to one request.
type Drawn struct {
	// Delay is how late it goes on; 0: at once.
	Delay time.Duration
	// Abort tells that it is answered then.
	Abort bool
}

// Draw decides about a request, and counts. random returns a number from 0 and below 1.
func (f *Fault) Draw(x *exchange.Exchange, random func() float64) (d Drawn) {
	if !f.fields.Match(&x.Request.Header) {
		return d
	}
	if f.delayed > 0 && (f.delayed == 1 || random() < f.delayed) {
		d.Delay = f.delay
		f.count.delays.Add(1)
	}
	if f.ended > 0 && (f.ended == 1 || random() < f.ended) {
		d.Abort = true
		f.count.aborts.Add(1)
	}
	return d
}

// Abort makes an error the exchange's response.
func (f *Fault) Abort(x *exchange.Exchange) {
	x.FailStatus(fault.Injected, f.status, "this error was asked for by the configuration: fault of a route or a policy")
	if f.grpc >= 0 && x.RPC != exchange.NoRPC {
		x.Response.Header.Set("grpc-status", strconv.Itoa(f.grpc))
	}
}
