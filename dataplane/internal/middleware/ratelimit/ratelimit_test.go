package ratelimit

import (
	"log/slog"
	"net/http"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/ratelimit"
	"gateway.internal/dataplane/internal/telemetry"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/fault"
)

func chain(t *testing.T, m *configv1.RateLimit) *pipeline.Chain {
	t.Helper()
	counters, log := telemetry.New(1), slog.New(slog.DiscardHandler)
	keep := live.NewStore(log, counters.Panics(log))
	t.Cleanup(keep.Close)
	env := &pipeline.Environment{Name: "m", Live: keep, Limits: ratelimit.NewNode(keep, counters.Sets())}
	s, err := New(m, env)
	if err != nil {
		t.Fatal(err)
	}
	one := func() *pipeline.Pipeline {
		return &pipeline.Pipeline{Steps: []pipeline.NamedStep{{Name: "m", Step: s}}}
	}
	return pipeline.NewChain(counters.Panics(log), one(), one())
}

// TestInTwoPipelines counts a request once, says once what is left, and gives back once what was taken.
func TestInTwoPipelines(t *testing.T) {
	for _, c := range []struct {
		algorithm string
		refused   fault.Code
	}{{"concurrency", ""}, {"fixed_window", fault.RateLimited}} {
		limits := chain(t, &configv1.RateLimit{Algorithm: c.algorithm, Limit: 1})
		begin := func() (*exchange.Exchange, *pipeline.Progress, exchange.Verdict) {
			x, at := &exchange.Exchange{}, &pipeline.Progress{}
			v := limits.Request(x, at)
			limits.Response(x, at)
			if n := len(x.Response.Header.Fields()); v == exchange.Continue && n != 2 {
				t.Errorf("%s: %d fields say what is left", c.algorithm, n)
			}
			return x, at, v
		}
		for range 3 {
			x, at, v := begin()
			if v != exchange.Continue {
				t.Fatalf("%s: the first request is answered with %d", c.algorithm, x.Response.Status)
			}
			y, after, v := begin()
			if v != exchange.Stop || y.Response.Status != http.StatusTooManyRequests {
				t.Errorf("%s: another request passes", c.algorithm)
			}
			limits.End(y, after, &pipeline.Outcome{Code: fault.RateLimited})
			limits.End(x, at, &pipeline.Outcome{Code: c.refused})
		}
	}
}

// TestGivenBack: a request that the gateway turns away without the client's doing takes nothing; any other one does.
func TestGivenBack(t *testing.T) {
	for _, c := range []struct {
		outcome pipeline.Outcome
		back    bool
	}{
		{pipeline.Outcome{Status: 200, Tried: 1}, false},
		{pipeline.Outcome{Status: 200}, false}, // an answer of the route's own
		{pipeline.Outcome{Status: 429, Code: fault.RateLimited}, true},
		{pipeline.Outcome{Status: 503, Code: fault.Overloaded}, true},
		{pipeline.Outcome{Status: 503, Code: fault.UpstreamUnavailable}, true}, // a step's
		{pipeline.Outcome{Status: 502, Code: fault.UpstreamUnavailable, Tried: 1}, false},
		{pipeline.Outcome{Status: 503, Code: fault.UpstreamOverloaded, Tried: 1}, true},
		{pipeline.Outcome{Status: 503, Code: fault.NoHealthyEndpoints}, true},
		{pipeline.Outcome{Status: 503, Code: fault.CircuitOpen}, true},
		{pipeline.Outcome{Status: 504, Code: fault.PipelineTimeout}, true},
		{pipeline.Outcome{Status: 504, Code: fault.UpstreamTimeout, Tried: 1}, false},
		{pipeline.Outcome{Status: 500, Code: fault.Internal}, true},
		{pipeline.Outcome{Status: 500, Code: fault.Internal, Tried: 1}, false},
		{pipeline.Outcome{Status: 401, Code: fault.Unauthenticated}, false},
		{pipeline.Outcome{Status: 403, Code: fault.Forbidden}, false},
		{pipeline.Outcome{Status: 413, Code: fault.RequestTooLarge}, false},
		{pipeline.Outcome{Status: 503, Code: fault.Injected}, false},
		{pipeline.Outcome{Code: fault.ClientClosed}, false},
	} {
		limits := chain(t, &configv1.RateLimit{Algorithm: "fixed_window", Window: "1h", Limit: 1})
		x, at := &exchange.Exchange{}, &pipeline.Progress{}
		if limits.Request(x, at) != exchange.Continue {
			t.Fatal("the first request does not pass")
		}
		limits.End(x, at, &c.outcome)
		back := limits.Request(&exchange.Exchange{}, &pipeline.Progress{}) == exchange.Continue
		if back != c.back {
			t.Errorf("%+v: given back: %t", c.outcome, back)
		}
	}
}
