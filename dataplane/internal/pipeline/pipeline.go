// Package pipeline runs middleware around an exchange: the request phases in order, or together where a pipeline says so, and
// the response phases in the reverse order. It does not know what the steps do.
package pipeline

import (
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// Step is one middleware with its settings. It is shared by all exchanges, so it is safe for concurrent use, and it keeps no
// string of an exchange.
//
// A step that waits for something ends when x.Deadline is over. Chain.Waits has to know of it: without that its chain runs in a loop's goroutine, where
// every other connection would wait too.
type Step interface {
	// Request runs before the service is asked. It may change x.Request's header, or answer by x.Answer or x.Fail
	// and return exchange.Stop: no later step runs its request phase then.
	Request(x *exchange.Exchange) exchange.Verdict
	// Response runs before the response's head is sent, whoever made the response. It may change x.Response's status and
	// header. It runs for every step whose request phase was begun.
	Response(x *exchange.Exchange)
}

// Preflighter is a Step that answers CORS preflights, so that its route takes those for its methods (Fetch standard, CORS-preflight fetch).
type Preflighter interface {
	Step
	// AnswersPreflights reports whether it does.
	AnswersPreflights() bool
}

// Worker is a Step that may work long at a response's body while that is sent. Such a response is sent where no other
// connection waits meanwhile.
type Worker interface {
	Step
	// WorksOn reports whether it does so, of a response that has a number of bytes so far.
	WorksOn(x *exchange.Exchange, bytes int) bool
}

// Bound is a step in its place.
type Bound struct {
	// Name is the middleware's.
	Name string
	Step Step
}

// Pipeline is an ordered list of steps. It is immutable.
type Pipeline struct {
	// Name is the pipeline's.
	Name string
	// Steps are in the order of their request phases.
	Steps []Bound
	// Parallel runs the request phases together.
	Parallel bool
	// Timeout is the longest that the request phases may take together; 0: any time.
	Timeout time.Duration
}

// Chain is the pipelines that run for a route, first to last. It is immutable; the nil chain has none.
type Chain struct {
	log       *slog.Logger
	pipelines []*Pipeline
	workers   []Worker
	waits     bool
	preflight bool
}

// NewChain returns a chain of those pipelines that have steps; nil when none has.
func NewChain(log *slog.Logger, pipelines ...*Pipeline) *Chain {
	c := &Chain{log: log}
	for _, p := range pipelines {
		if p != nil && len(p.Steps) > 0 {
			c.pipelines = append(c.pipelines, p)
			c.waits = c.waits || p.Parallel && len(p.Steps) > 1
			for _, s := range p.Steps {
				f, ok := s.Step.(Preflighter)
				c.preflight = c.preflight || ok && f.AnswersPreflights()
				if w, ok := s.Step.(Worker); ok {
					c.workers = append(c.workers, w)
				}
			}
		}
	}
	if len(c.pipelines) == 0 {
		return nil
	}
	return c
}

// Waits reports whether Request may wait for something, if only for other goroutines.
func (c *Chain) Waits() bool { return c != nil && c.waits }

// AnswersPreflights reports whether a step answers CORS preflights.
func (c *Chain) AnswersPreflights() bool { return c != nil && c.preflight }

// WorksOn reports whether a step may work long at the body of a response that has a number of bytes so far.
func (c *Chain) WorksOn(x *exchange.Exchange, bytes int) bool {
	if c == nil {
		return false
	}
	for _, w := range c.workers {
		if w.WorksOn(x, bytes) {
			return true
		}
	}
	return false
}

// Progress is how far the request phase came: what Response has to go back through. The zero value is nowhere.
type Progress struct{ pipelines, steps int }

// Request runs the request phases. After exchange.Stop, x has a response.
func (c *Chain) Request(x *exchange.Exchange) (v exchange.Verdict, at Progress) {
	if c == nil {
		return exchange.Continue, Progress{}
	}
	defer c.rescue(x, &v, &at)
	for i, p := range c.pipelines {
		at = Progress{i, 0}
		deadline := x.Deadline
		if p.Timeout > 0 {
			end := time.Now().Add(p.Timeout)
			if x.Deadline.IsZero() || end.Before(x.Deadline) {
				x.Deadline = end
			}
		}
		if p.Parallel && len(p.Steps) > 1 {
			v = p.together(x)
			at.steps = len(p.Steps)
		} else {
			v = p.inTurn(x, &at)
		}
		late := p.Timeout > 0 && time.Now().After(x.Deadline)
		x.Deadline = deadline
		if late && v == exchange.Continue {
			x.Fail(fault.PipelineTimeout, "pipeline "+p.Name+" took longer than "+p.Timeout.String())
			v = exchange.Stop
		}
		if v == exchange.Stop {
			return v, at
		}
	}
	return exchange.Continue, at
}

func (p *Pipeline) inTurn(x *exchange.Exchange, at *Progress) exchange.Verdict {
	for j := range p.Steps {
		at.steps = j + 1
		if p.Steps[j].Step.Request(x) == exchange.Stop {
			return exchange.Stop
		}
		if p.Timeout > 0 && time.Now().After(x.Deadline) {
			return exchange.Continue // the caller says that it is too late
		}
	}
	return exchange.Continue
}

var forks = sync.Pool{New: func() any { return new(exchange.Fork) }}

// together runs all steps on forks of the exchange and waits for all of them: they share its views. The first refusal in the
// order of steps wins; otherwise the effects are applied in that order.
func (p *Pipeline) together(x *exchange.Exchange) exchange.Verdict {
	fs := make([]*exchange.Fork, len(p.Steps))
	verdicts := make([]exchange.Verdict, len(p.Steps))
	panics := make([]any, len(p.Steps))
	var wg sync.WaitGroup
	for j := range p.Steps {
		f := forks.Get().(*exchange.Fork)
		x.Fork(f)
		fs[j] = f
		run := func() {
			defer func() { panics[j] = recover() }()
			verdicts[j] = p.Steps[j].Step.Request(&f.X)
		}
		if j == len(p.Steps)-1 {
			run()
		} else {
			wg.Go(run)
		}
	}
	wg.Wait()
	verdict := exchange.Continue
	for j, f := range fs {
		if panics[j] != nil {
			panic(panics[j])
		}
		if verdicts[j] == exchange.Stop {
			f.JoinResponse(x)
			verdict = exchange.Stop
			break
		}
		f.Join(x)
	}
	for _, f := range fs {
		forks.Put(f)
	}
	return verdict
}

// Response runs the response phases, last step first.
func (c *Chain) Response(x *exchange.Exchange, at Progress) {
	if c == nil {
		return
	}
	var v exchange.Verdict
	i, steps := at.pipelines, at.steps
	defer func() {
		if r := recover(); r != nil {
			c.broken(x, r, &v)
		}
	}()
	for ; i >= 0; i-- {
		p := c.pipelines[i]
		if i != at.pipelines {
			steps = len(p.Steps)
		}
		for j := steps - 1; j >= 0; j-- {
			p.Steps[j].Step.Response(x)
		}
	}
}

// rescue makes a defect of a step an error of one exchange. It is set up once for a whole chain.
func (c *Chain) rescue(x *exchange.Exchange, v *exchange.Verdict, at *Progress) {
	if r := recover(); r != nil {
		c.broken(x, r, v)
		*at = Progress{}
	}
}

func (c *Chain) broken(x *exchange.Exchange, r any, v *exchange.Verdict) {
	c.log.Error("middleware panicked", "route", x.Route, "panic", r, "stack", string(debug.Stack()))
	x.Fail(fault.Internal, "a middleware of this route failed")
	*v = exchange.Stop
}
