// Package ratelimit is the middleware type "rate_limit": it lets no more requests pass than a limit says.
package ratelimit

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/ratelimit"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*configv1.RateLimit)
	if !ok {
		return nil, fmt.Errorf("rate_limit: settings are a %T", settings)
	}
	if env == nil || env.Limits == nil {
		return nil, errors.New("rate_limit: the node counts nothing")
	}
	limits, err := env.Limits.Limits(ratelimit.Owner{Middleware: env.Name}, []*configv1.RateLimit{m})
	if err != nil {
		return nil, fmt.Errorf("rate_limit: %w", err)
	}
	return &step{ratelimit.NewSet(limits, nil), exchange.FactKey[*ratelimit.Taken]("rate_limit " + env.Name)}, nil
}

type step struct {
	set   *ratelimit.Set
	taken exchange.FactKey[*ratelimit.Taken]
}

// Request implements pipeline.Step. A middleware that is in several pipelines of a route counts a request once.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	if t, counted := s.taken.Of(x); counted {
		t.Share()
		return exchange.Continue
	}
	t, v := s.set.Take(x)
	if v != exchange.Later {
		x.Put(s.taken.Fact(t))
	}
	return v
}

// Response implements pipeline.Step.
func (s *step) Response(x *exchange.Exchange) {
	if t, found := s.taken.Of(x); found {
		t.Tell(x)
	}
}

// End implements pipeline.Ender.
func (s *step) End(x *exchange.Exchange, o *pipeline.Outcome) {
	t, found := s.taken.Of(x)
	if !found {
		return
	}
	t.Settle(x, o.Code, o.Tried)
	t.End()
}
