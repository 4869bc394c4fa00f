package pipeline

import (
	"context"
	"sync"

	"gateway.internal/dataplane/internal/exchange"
)

var forks = sync.Pool{New: func() any { return new(exchange.Fork) }}

// parallelRun is one exchange's run through the request phases of a parallel pipeline.
type parallelRun struct {
	forks    []*exchange.Fork
	verdicts []exchange.Verdict
	panics   []any

	mu      sync.Mutex
	refused int // the step whose refusal counts; -1: none
	cancel  context.CancelFunc
}

// runParallel runs all steps on forks of the exchange and waits for all of them: they share its views. The first
// refusal ends what the others wait for by x.Context. Of several the one whose step is first counts, but for those of
// steps that were ended so. Without one the effects are applied in the order of steps.
func (p *Pipeline) runParallel(x *exchange.Exchange) exchange.Verdict {
	n := len(p.Steps)
	r := &parallelRun{
		forks: make([]*exchange.Fork, n), verdicts: make([]exchange.Verdict, n), panics: make([]any, n), refused: -1,
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r.cancel = cancel
	var wg sync.WaitGroup
	for j := range p.Steps {
		f := forks.Get().(*exchange.Fork)
		x.Fork(f, ctx)
		r.forks[j] = f
	}
	for j := range p.Steps {
		if j == n-1 {
			r.run(p.Steps[j].Step, j)
		} else {
			wg.Go(func() { r.run(p.Steps[j].Step, j) })
		}
	}
	wg.Wait()
	for _, v := range r.panics {
		if v != nil {
			panic(v) // the forks are not used again: nobody knows what the steps have left in them
		}
	}
	verdict := exchange.Continue
	if r.refused >= 0 {
		r.forks[r.refused].JoinResponse(x)
		verdict = exchange.Stop
	} else {
		for _, f := range r.forks {
			if verdict = f.Join(x); verdict == exchange.Stop {
				break
			}
		}
	}
	for _, f := range r.forks {
		f.Release()
		forks.Put(f)
	}
	return verdict
}

func (r *parallelRun) run(s Step, j int) {
	defer func() {
		if v := recover(); v != nil {
			r.panics[j] = v
			r.cancel()
		}
	}()
	f := r.forks[j]
	r.verdicts[j] = s.Request(&f.X)
	if r.verdicts[j] != exchange.Stop {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.refused < 0:
		r.refused = j
		r.cancel()
	case j < r.refused && !f.Waited():
		r.refused = j
	}
}
