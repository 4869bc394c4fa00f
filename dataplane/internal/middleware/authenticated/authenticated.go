// Package authenticated is the middleware type "authenticated": it refuses requests that come from nobody who is known.
package authenticated

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/identity"
	"gateway.internal/dataplane/internal/pathrule"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	s, ok := settings.(*middlewarev1.Authenticated)
	if !ok {
		return nil, fmt.Errorf("authenticated: settings are a %T", settings)
	}
	open, err := pathrule.CompileList("exclude_paths", s.GetExcludePaths())
	if err != nil {
		return nil, fmt.Errorf("authenticated: %w", err)
	}
	return &step{open, env.Metrics.Counter("refused_total", "Requests that came from nobody who is known.")}, nil
}

type step struct {
	open    *pathrule.List
	refused *telemetry.Counter
}

// Request refuses who is not known, with what all steps before would have taken.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	if x.Principal != nil || s.open.Has(x) {
		return exchange.Continue
	}
	s.refused.Add(1)
	return identity.Refuse(x, "this is for clients that say who they are")
}

// Response implements pipeline.Step.
func (*step) Response(*exchange.Exchange) {}
