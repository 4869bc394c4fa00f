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
