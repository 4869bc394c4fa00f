package fleet

import (
	"context"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// maxQuestions bounds how many questions about limits are under way at a time.
const maxQuestions = 1000

// questions are those about limits that nodes have not answered yet. The fleet's mu protects them.
type questions struct {
	last uint64
	open map[uint64]*question
}

type question struct {
	waits   map[string]bool // nodes that were asked
	answers map[string]*streamv1.LimitStatus
	done    chan struct{} // closed once all have answered
}

// AskLimit has all nodes say what is left of a limit, and returns what those say, by id, that answer before ctx ends.
func (f *Fleet) AskLimit(
	ctx context.Context, d *streamv1.LimitDirective,
) (answers map[string]*streamv1.LimitStatus, ok bool) {
	f.mu.Lock()
	if len(f.questions.open) >= maxQuestions {
		f.mu.Unlock()
		return nil, false
	}
	f.questions.last++
	number := f.questions.last
	d.Question = number
	q := &question{waits: map[string]bool{}, answers: map[string]*streamv1.LimitStatus{}, done: make(chan struct{})}
	for id, n := range f.nodes {
		if n.session != nil {
			q.waits[id] = true
		}
	}
	if f.questions.open == nil {
		f.questions.open = map[uint64]*question{}
	}
	if f.questions.open[number] = q; len(q.waits) == 0 {
		close(q.done)
	}
	f.direct(questionOf(number), &streamv1.Directive{Action: &streamv1.Directive_Limit{Limit: d}})
	f.mu.Unlock()
	select {
	case <-q.done:
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.questions.open, number)
	return q.answers, true
}

// answer takes a node's answers in; the caller holds mu.
func (f *Fleet) answer(node string, list []*streamv1.LimitStatus) {
	for _, a := range list {
		q := f.questions.open[a.GetQuestion()]
		if q == nil || !q.waits[node] {
			continue
		}
		delete(q.waits, node)
		if q.answers[node] = a; len(q.waits) == 0 {
			close(q.done)
		}
	}
}
