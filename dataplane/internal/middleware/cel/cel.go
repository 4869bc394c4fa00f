// Package cel is the middleware type "cel": it lets requests pass by conditions in the Common Expression Language.
package cel

import (
	"cmp"
	"errors"
	"fmt"

	"cel.dev/cel-go/interpreter"
	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/expression"
	"gateway.internal/shared/fault"
)

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*middlewarev1.Cel)
	if !ok {
		return nil, fmt.Errorf("cel: settings are a %T", settings)
	}
	s := &step{message: cmp.Or(m.GetMessage(), "this client may not do this")}
	for _, e := range []struct {
		field, text string
		into        **expression.Expression
	}{{"allow", m.GetAllow(), &s.allow}, {"deny", m.GetDeny(), &s.deny}} {
		if e.text == "" {
			continue
		}
		var err error
		if *e.into, err = expression.Compile(e.text); err != nil {
			return nil, fmt.Errorf("cel: %s: %w", e.field, err)
		}
	}
	decisions := func(result string) *telemetry.Counter {
		return env.Metrics.Counter("decisions_total",
			"Requests that were decided about: allowed, denied, or refused where an expression could not be evaluated "+
				"(error) or cost too much (cost).", "result", result)
	}
	s.allowed, s.denied, s.failed, s.dear = decisions("allowed"), decisions("denied"), decisions("error"),
		decisions("cost")
	return s, nil
}

type step struct {
	allow, deny *expression.Expression // nil: there is none
	message     string

	allowed, denied, failed, dear *telemetry.Counter
}

// Request decides. A request about which an expression can't say anything is refused, whichever of the two it is.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	v := valuesOf(x)
	passes, err := s.passes(v)
	v.release()
	switch {
	case err != nil:
		return s.fail(x, err)
	case !passes:
		return s.refuse(x, s.denied)
	}
	s.allowed.Add(1)
	return exchange.Continue
}

func (s *step) passes(v *values) (bool, error) {
	if s.deny != nil {
		if denied, err := s.deny.Eval(v); err != nil || denied {
			return false, err
		}
	}
	if s.allow == nil {
		return true, nil
	}
	return s.allow.Eval(v)
}

func (s *step) fail(x *exchange.Exchange, err error) exchange.Verdict {
	var cancelled interpreter.EvalCancelledError
	if errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded {
		return s.refuse(x, s.dear)
	}
	return s.refuse(x, s.failed)
}

func (s *step) refuse(x *exchange.Exchange, as *telemetry.Counter) exchange.Verdict {
	as.Add(1)
	x.Fail(fault.Forbidden, s.message)
	return exchange.Stop
}

// Response implements pipeline.Step.
func (*step) Response(*exchange.Exchange) {}
