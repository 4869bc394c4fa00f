// Package pipeline runs middleware around an exchange: the request phases in order, or in parallel where a pipeline
// says so, the response phases in the reverse order, and what they want to do at its end. [Step] says when each runs
// and what it may do. It does not know what the steps do.
package pipeline

import (
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/middleware"
)

// Pipeline is an ordered list of steps. It is immutable.
type Pipeline struct {
	// Name is the pipeline's.
	Name string
	// Steps are in the order of their request phases.
	Steps []NamedStep
	// Parallel runs the request phases together.
	Parallel bool
	// Timeout is the longest that the request phases may take together; 0: any time.
	Timeout time.Duration
}

// Chain is the pipelines that run for a route, first to last. It is immutable; the nil chain has none.
type Chain struct {
	panics    *telemetry.Panics
	pipelines []*Pipeline
	workers   []Worker
	waits     bool // a step may wait
	ends      bool // a step is told of the end
}

// NewChain returns a chain of those pipelines that have steps; nil when none has. panics is told of steps that panic.
func NewChain(panics *telemetry.Panics, pipelines ...*Pipeline) *Chain {
	c := &Chain{panics: panics}
	for _, p := range pipelines {
		if p == nil || len(p.Steps) == 0 {
			continue
		}
		c.pipelines = append(c.pipelines, p)
		c.waits = c.waits || p.Parallel && len(p.Steps) > 1
		for _, s := range p.Steps {
			c.waits = c.waits || s.Waits != middleware.WaitsNever
			_, ends := s.Step.(Ender)
			c.ends = c.ends || ends
			if w, ok := s.Step.(Worker); ok {
				c.workers = append(c.workers, w)
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

// Works reports whether a step may work long at the bodies of responses.
func (c *Chain) Works() bool { return c != nil && len(c.workers) > 0 }

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

// Progress is how far the request phases came: where they go on after exchange.Later, and what Response and End go back
// through. The zero value is the beginning.
type Progress struct {
	pipelines int       // that are through
	entered   bool      // the next one has begun
	steps     int       // of that one that have begun
	again     bool      // the last of these is to be called again
	broken    bool      // a step has panicked
	deadline  time.Time // of the exchange, while the pipeline has its own
}

// Request runs the request phases, from where the progress is. After exchange.Stop, x has a response. exchange.Later,
// which only comes where x.InLoop, means that the rest has to wait for something: Request is called again for it where
// it may.
func (c *Chain) Request(x *exchange.Exchange, at *Progress) (v exchange.Verdict) {
	if c == nil {
		return exchange.Continue
	}
	defer c.rescue(x, &v, at)
	for at.pipelines < len(c.pipelines) {
		p := c.pipelines[at.pipelines]
		if !at.entered {
			at.entered, at.steps, at.deadline = true, 0, x.Deadline
			if p.Timeout > 0 {
				if end := time.Now().Add(p.Timeout); x.Deadline.IsZero() || end.Before(x.Deadline) {
					x.Deadline = end
				}
			}
		}
		if v = p.run(x, at); v == exchange.Later {
			return v
		}
		late := p.Timeout > 0 && !x.Deadline.Equal(at.deadline) && time.Now().After(x.Deadline)
		x.Deadline = at.deadline
		if late && v == exchange.Continue {
			x.Fail(fault.PipelineTimeout, "pipeline "+p.Name+" took longer than "+p.Timeout.String())
			v = exchange.Stop
		}
		if v == exchange.Stop {
			return v
		}
		at.pipelines++
		at.entered = false
	}
	return exchange.Continue
}

func (p *Pipeline) run(x *exchange.Exchange, at *Progress) exchange.Verdict {
	if p.Parallel && len(p.Steps) > 1 {
		if x.InLoop { // it waits for other goroutines
			return exchange.Later
		}
		at.steps = len(p.Steps)
		return p.runParallel(x)
	}
	return p.runSequential(x, at)
}

func (p *Pipeline) runSequential(x *exchange.Exchange, at *Progress) exchange.Verdict {
	if at.again {
		at.again = false
		at.steps--
	}
	for at.steps < len(p.Steps) {
		s := &p.Steps[at.steps]
		if s.Waits == middleware.WaitsAlways && x.InLoop {
			return exchange.Later
		}
		at.steps++
		switch s.Step.Request(x) {
		case exchange.Stop:
			return exchange.Stop
		case exchange.Later:
			if !x.InLoop {
				panic("middleware " + s.Name + " does not wait where it may")
			}
			at.again = true
			return exchange.Later
		}
		if p.Timeout > 0 && time.Now().After(x.Deadline) {
			return exchange.Continue // the caller says that it is too late
		}
	}
	return exchange.Continue
}

// Response runs the response phases, last step first.
func (c *Chain) Response(x *exchange.Exchange, at *Progress) {
	if c == nil || at.broken {
		return
	}
	var v exchange.Verdict
	defer c.rescue(x, &v, at)
	c.back(at, func(s Step) { s.Response(x) })
}

// End tells the steps whose request phase was begun that the exchange is over. It is called once.
func (c *Chain) End(x *exchange.Exchange, at *Progress, o *Outcome) {
	if c == nil || !c.ends {
		return
	}
	c.back(at, func(s Step) {
		if e, ok := s.(Ender); ok {
			c.end(e, x, o)
		}
	})
}

// end keeps a step that panics from the others' end.
func (c *Chain) end(e Ender, x *exchange.Exchange, o *Outcome) {
	defer func() {
		if r := recover(); r != nil {
			c.panics.Caught("a middleware at the end", x.Route, r)
		}
	}()
	e.End(x, o)
}

// back calls f with the steps that have begun, the last one first.
func (c *Chain) back(at *Progress, f func(Step)) {
	steps := 0
	if at.entered {
		steps = at.steps
	}
	for i := at.pipelines; i >= 0; i-- {
		if i < at.pipelines {
			steps = len(c.pipelines[i].Steps)
		}
		for j := steps - 1; j >= 0; j-- {
			f(c.pipelines[i].Steps[j].Step)
		}
	}
}

// rescue makes a defect of a step an error of one exchange. It is set up once for a whole chain.
func (c *Chain) rescue(x *exchange.Exchange, v *exchange.Verdict, at *Progress) {
	r := recover()
	if r == nil {
		return
	}
	if at.entered {
		x.Deadline = at.deadline
	}
	at.broken = true
	c.panics.Caught("a middleware", x.Route, r)
	x.Fail(fault.Internal, "a middleware of this route failed")
	*v = exchange.Stop
}
