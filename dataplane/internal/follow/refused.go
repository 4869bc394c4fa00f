package follow

import (
	"fmt"
	"time"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// refused is the newest revision that the node was told to run, when it keeps what it had. It is immutable.
type refused struct {
	epoch    string
	revision uint32
	// why is the first problem.
	why string
	// behind is since when most of the fleet runs it; zero: it does not, as far as is known.
	behind time.Time
}

// refuse notes a refusal. One that is repeated, on another stream, is the same.
func (f *Follower) refuse(r *streamv1.Result, problems []*streamv1.Problem) {
	now := &refused{epoch: r.GetEpoch(), revision: r.GetRevision(), why: describe(problems)[0]}
	if old := f.refused.Load(); old != nil && old.epoch == now.epoch && old.revision == now.revision {
		now.behind = old.behind
	}
	f.refused.Store(now)
}

// stand takes over how the fleet stands to what the node refuses.
func (f *Follower) stand(s *streamv1.FleetStanding) {
	old := f.refused.Load()
	if old == nil || old.epoch != s.GetEpoch() || old.revision != s.GetRevision() ||
		s.GetOthersRun() != old.behind.IsZero() {
		return
	}
	now := *old
	now.behind = time.Time{}
	if s.GetOthersRun() {
		now.behind = time.Now()
		f.log.Warn("most of the fleet runs what this node refuses", "revision", now.revision, "reason", now.why)
	}
	f.refused.Store(&now)
}

// NotReady returns why the node is not ready though it serves: it has refused for RefusalTimeout what most of its
// fleet runs. It is "" otherwise. It is safe for concurrent use.
func (f *Follower) NotReady() string {
	r := f.refused.Load()
	if f.set.RefusalTimeout == 0 || r == nil || r.behind.IsZero() || time.Since(r.behind) < f.set.RefusalTimeout {
		return ""
	}
	return fmt.Sprintf("the node refuses revision %d, which most of its fleet runs: %s", r.revision, r.why)
}
