package follow

import (
	"errors"
	"fmt"
	"time"

	"gateway.internal/dataplane/internal/runtime"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// take applies a whole update, or a chunk of one of a set, and puts it on disk. It returns the answer; nil for a chunk
// that is not the last one. The error is errStale; then nothing has changed.
func (f *Follower) take(m *streamv1.StreamResponse) (*streamv1.Result, error) {
	start := time.Now()
	var r *streamv1.Result
	var err error
	switch {
	case m.GetUpdate() != nil:
		r, err = f.takeUpdate(m.GetUpdate())
	case m.GetSet() != nil:
		r, err = f.takeSet(m.GetSet())
	default:
		r, err = f.takeEndpoints(m)
	}
	if r != nil {
		r.ApplyMicros = uint64(time.Since(start).Microseconds())
	}
	return r, err
}

// refusal is the answer to what is not taken. The error is errStale, where that is why.
func (f *Follower) refusal(r *streamv1.Result, err error) (*streamv1.Result, error) {
	ref, ok := errors.AsType[*refusal](err)
	if !ok {
		return nil, err
	}
	r.Outcome, r.Problems = streamv1.Result_OUTCOME_REJECTED, ref.problems
	f.log.Error("update refused; the node keeps what it has", "revision", r.GetRevision(), "set", r.GetSet(),
		"problems", describe(ref.problems))
	return r, nil
}

// taken is the answer to what is taken.
func (f *Follower) taken(r *streamv1.Result) *streamv1.Result {
	r.Outcome = streamv1.Result_OUTCOME_APPLIED
	if f.judge(); f.degraded.Load() != nil {
		r.Outcome, r.Problems = streamv1.Result_OUTCOME_DEGRADED, f.degraded.Load().GetProblems()
	}
	return r
}

func (f *Follower) takeEndpoints(m *streamv1.StreamResponse) (*streamv1.Result, error) {
	r := &streamv1.Result{EndpointsVersion: m.GetEndpoints().GetVersion()}
	next, err := f.state.nextEndpoints(m.GetEndpoints())
	if err != nil {
		f.fresh = true
		return nil, err
	}
	f.node.ApplyEndpoints(next.found())
	f.state = next
	f.save(m, false)
	return f.taken(r), nil
}

func (f *Follower) takeUpdate(u *streamv1.Update) (*streamv1.Result, error) {
	r := &streamv1.Result{Revision: u.GetRevision(), Epoch: u.GetEpoch()}
	before := f.state
	next, err := f.apply(u)
	if err != nil {
		if errors.Is(err, errStale) {
			f.fresh = true
		} else if ref, ok := errors.AsType[*refusal](err); ok {
			f.refuse(r, ref.problems)
		}
		return f.refusal(f.with(r), err)
	}
	f.state = next
	f.refused.Store(nil)
	f.save(next.onDisk(u), losesSecrets(before.config, next.config))
	if next.consumers != before.consumers { // of a control plane that does not send them apart
		f.saveConsumers(nil)
	}
	r = f.taken(f.with(r))
	f.told = f.degraded.Load()
	return r, nil
}

// with is an answer with what the node runs now.
func (f *Follower) with(r *streamv1.Result) *streamv1.Result {
	hash := f.state.config.Hash()
	r.Hash = hash[:]
	return r
}

// takeSet takes a chunk of an update of a set.
func (f *Follower) takeSet(u *streamv1.SetUpdate) (*streamv1.Result, error) {
	next, b, err := f.state.takeSet(f.building, u)
	f.building = b
	if next == nil && err == nil {
		return nil, nil //nolint:nilnil // more of it is to come
	}
	f.building = nil
	f.freshSets = errors.Is(err, errStale)
	r := &streamv1.Result{Set: u.GetKind()}
	if err == nil {
		before := f.state
		f.state, f.unmet = next, nil
		// A change goes to disk first: who was refused once because of it is not let in after a crash. All of them may
		// take seconds to write, for which a revocation must not wait.
		if len(b.changes) > 0 && !f.unsaved.consumers {
			f.saveConsumers(b.changes)
			f.node.ApplyConsumers(next.consumers)
			if b.draft.LostSecrets() {
				f.saveConsumers(nil)
			}
		} else {
			f.node.ApplyConsumers(next.consumers)
			f.saveConsumers(nil)
		}
		if b.draft.LostSecrets() && f.unsaved.snapshot {
			f.saveSnapshot(nil, true) // an earlier build may have kept them there
		}
		f.log.Info("consumers applied", "revision", u.GetRevision(), "consumers", next.consumers.Len(),
			"before", before.consumers.Len())
		r = f.taken(r)
	} else if ref, ok := errors.AsType[*refusal](err); ok {
		f.unmet = ref.problems
		f.judge()
	}
	hash := f.state.consumers.Hash()
	r.Hash = hash[:]
	if err != nil {
		return f.refusal(r, err)
	}
	return r, nil
}

// apply gives the node what an update leads to. The error is a *refusal or errStale.
func (f *Follower) apply(u *streamv1.Update) (*state, error) {
	if u.GetBaseRevision() == 0 {
		f.fresh = false // this is what was asked for
	}
	next, err := f.state.next(u)
	if err != nil {
		return nil, err
	}
	if err := f.state.checkShrink(u, next.config); err != nil {
		return nil, err
	}
	problems := f.node.Apply(runtime.Version{Epoch: next.epoch, Revision: next.revision, Config: next.config})
	if len(problems) > 0 {
		return nil, &refusal{problems}
	}
	if next.consumers != f.state.consumers {
		f.node.ApplyConsumers(next.consumers)
	}
	return next, nil
}

// maxDescribed is how many problems a log line names.
const maxDescribed = 10

// describe makes problems readable in a log.
func describe(problems []*streamv1.Problem) []string {
	var lines []string
	for i, p := range problems {
		if i == maxDescribed {
			lines = append(lines, fmt.Sprintf("and %d more", len(problems)-i))
			break
		}
		line := p.GetReason()
		if p.GetField() != "" {
			line = p.GetField() + " " + line
		}
		if p.GetKind() != "" {
			line = fmt.Sprintf("%s %q: %s", p.GetKind(), p.GetName(), line)
		}
		lines = append(lines, line)
	}
	return lines
}
