package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/runtime"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/backoff"
	"gateway.internal/shared/config"
	"gateway.internal/shared/nodeid"
)

// Node is what follows: the data plane's runtime.
type Node interface {
	Applier
	// ApplyEndpoints makes these the discovered endpoints by service id.
	ApplyEndpoints(found map[string][]*configv1.Endpoint)
	// Report returns what happened since the last report that was committed. commit is told how many of its routes were
	// sent, the first ones, and may be called again with more.
	Report(all bool) (report *streamv1.Report, commit func(sent int))
}

// Settings say whom to follow, and as whom.
type Settings struct {
	// Addresses are control planes, at least one, tried in turn.
	Addresses []string
	// Token is the join token.
	Token string
	// NodeID is the id in the fleet; empty: one that is kept in DataDir.
	NodeID string
	// Group is for rollouts; it may be empty.
	Group string
	// Labels are free key-value pairs.
	Labels map[string]string
	// Build is the version of this program.
	Build string
	// DataDir is the folder of the last good snapshot.
	DataDir string
	// Instance is what the control plane tells this process by; empty: a new one. A process that replaces another one has the other's.
	Instance string
	// RefusalTimeout is how long the node may refuse what most of its fleet runs before it is not ready; 0: for ever.
	RefusalTimeout time.Duration
	// Lock is the locked file of the data folder, from the process that is replaced; nil: the folder is to be locked. It is the follower's.
	Lock *os.File
}

// Follower follows a control plane. One goroutine, Run's, owns it.
type Follower struct {
	set      Settings
	log      *slog.Logger
	node     Node
	dial     dialer
	disk     *disk
	instance string
	started  time.Time

	state     *state
	fresh     bool      // ask for a full snapshot: the control plane's view of this node is not what it runs
	freshSets bool      // ask for all that is apart
	building  *building // what is apart as far as it has come; nil: nothing
	unsaved   unsaved   // what is on disk is older than the state
	savedAt   time.Time // the last attempt to write
	reported  time.Time // up to when reports have told what happened

	unkept   [2]string                            // why the snapshot, and the consumers, are not on disk; "": they are
	unmet    []*streamv1.Problem                  // why consumers were refused last; nil: they were not
	degraded atomic.Pointer[streamv1.Degradation] // what of the revision does not work; nil: it works
	told     *streamv1.Degradation                // what the stream was told last
	refused  atomic.Pointer[refused]              // nil: it runs what it was told to run last
	outcomes map[string]codes.Code                // how the last stream to an address ended, as far as it was logged
}

// unsaved is what of the state is not on disk.
type unsaved struct{ snapshot, consumers bool }

// NewFollower opens the data folder, and starts the node from the last good snapshot there, if there is one. A damaged snapshot is
// logged, not an error. The folder is this process's until Run returns.
func NewFollower(set Settings, log *slog.Logger, node Node) (*Follower, error) {
	if set.NodeID != "" {
		if err := nodeid.Check(set.NodeID); err != nil {
			return nil, fmt.Errorf("--node-id %w", err)
		}
	}
	d, err := openDisk(set.DataDir, set.Lock)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	f := &Follower{
		set: set, log: log, node: node, dial: dialGRPC, disk: d, state: newState(), instance: cmp.Or(set.Instance, newID()), started: now, reported: now,
		outcomes: map[string]codes.Code{},
	}
	if f.set.NodeID == "" {
		if f.set.NodeID, err = d.nodeID(); err != nil {
			d.close()
			return nil, err
		}
	}
	f.restore()
	return f, nil
}

// restore starts the node from the last good snapshot.
func (f *Follower) restore() {
	f.unsaved.consumers = true // without what they belong to, those on disk are of no use, and may be old
	records, cut, err := f.disk.load()
	if err != nil {
		f.log.Error("last good snapshot", "error", err.Error())
	}
	if cut > 0 {
		f.log.Warn("last good snapshot: its end was torn and is cut off", "bytes", cut)
	}
	if len(records) == 0 {
		return
	}
	s, err := replay(records)
	if err != nil {
		f.log.Error("last good snapshot: going on with what fits together", "error", err.Error())
		f.unsaved.snapshot = true
	}
	if slices.ContainsFunc(records, hasApart) {
		f.unsaved.snapshot = true // values of consumers that go later would stay in it
	}
	if s.revision == 0 {
		return
	}
	s = f.restoreConsumers(s)
	f.node.ApplyEndpoints(s.found())
	f.node.ApplyConsumers(s.consumers)
	if problems := f.node.Apply(runtime.Version{Epoch: s.epoch, Revision: s.revision, Config: s.config}); len(problems) > 0 {
		f.log.Error("last good snapshot can't be applied", "revision", s.revision, "problems", describe(problems))
		f.node.ApplyEndpoints(nil)
		f.node.ApplyConsumers(&consumer.Set{})
		f.unsaved.consumers = true
		return
	}
	f.state = s
	f.judge()
	f.log.Info("started from the last good snapshot", "revision", s.revision, "consumers", s.consumers.Len())
}

// restoreConsumers returns the state with the last good consumers, as far as they fit together. Those that a snapshot of
// an earlier build has stay where there are no others, or older ones: then that build ran after this one.
func (f *Follower) restoreConsumers(s *state) *state {
	var building *building
	var wrong error
	there, old := false, false
	own := s.consumersOf
	cut, err := f.disk.consumers.each(func(m *streamv1.StreamResponse) {
		if u := m.GetSet(); len(u.GetBaseHash()) == 0 && (place{u.GetEpoch(), u.GetRevision()}).before(own) {
			old = true
		}
		if wrong != nil || old {
			return
		}
		next, b, err := s.takeSet(building, m.GetSet())
		if building = b; err != nil {
			wrong = err
		} else if next != nil {
			s, building, there = next, nil, true
		}
	})
	if err = cmp.Or(err, wrong); err != nil {
		f.log.Error("last good consumers: going on with what fits together", "error", err.Error())
	}
	if cut > 0 {
		f.log.Warn("last good consumers: their end was torn and is cut off", "bytes", cut)
	}
	f.unsaved.consumers = wrong != nil || !there
	return s
}

// NodeID returns the id in the fleet.
func (f *Follower) NodeID() string { return f.set.NodeID }

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

// refused is the answer to what is not taken. The error is errStale, where that is why.
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
		f.node.ApplyConsumers(next.consumers)
		f.state, f.unmet = next, nil
		if b.draft.LostSecrets() {
			b.changes = nil
		}
		f.saveConsumers(b.changes)
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
	if problems := f.node.Apply(runtime.Version{Epoch: next.epoch, Revision: next.revision, Config: next.config}); len(problems) > 0 {
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

// retrySave is how long after a failed write the next is tried.
const retrySave = 10 * time.Second

// losesSecrets reports whether resources of one configuration may have secrets that are not in the next one.
func losesSecrets(before, after *config.Config) bool {
	for _, ch := range config.Diff(before, after) {
		if ch.Before == nil {
			continue
		}
		was, now := before.ByID(ch.Kind, ch.ID()), after.ByID(ch.Kind, ch.ID())
		secrets := config.Secrets(was.Message)
		if now == nil && (len(secrets) > 0 || len(was.Message.GetEnvironment()) > 0) {
			return true
		}
		if now == nil {
			continue
		}
		still := config.Secrets(now.Message)
		if slices.ContainsFunc(secrets, func(s config.Secret) bool { return !slices.Contains(still, s) }) {
			return true
		}
		// What a middleware took is in its settings, whose fields are not those of the environment.
		if was.Settings != nil && len(was.Message.GetEnvironment()) > 0 && !proto.Equal(was.Settings, now.Settings) {
			return true
		}
	}
	return false
}

// save puts the state on disk. Where that fails the node serves all the same, and says that it is degraded. Secrets that
// are gone must not stay in the file, so everything is written anew then.
func (f *Follower) save(m *streamv1.StreamResponse, secretsGone bool) {
	change := m
	if f.unsaved.snapshot || secretsGone || m.GetUpdate() != nil && m.GetUpdate().GetBaseRevision() == 0 {
		change = nil
	}
	f.saveSnapshot(change, secretsGone)
}

// saveSnapshot puts a change on disk; nil asks for all. Consumers that only the snapshot before has are written first.
func (f *Follower) saveSnapshot(change *streamv1.StreamResponse, secretsGone bool) {
	if f.state.revision == 0 {
		return // endpoints alone can't be started from
	}
	if secretsGone {
		f.disk.forgetDamaged()
	}
	var err error
	if change == nil && f.unsaved.consumers {
		if err = f.writeConsumers(nil); err != nil {
			f.unsaved.snapshot = true
		}
	}
	if err == nil {
		err = f.write(change)
	}
	if err != nil {
		f.log.Error("the last good snapshot can't be written; after a restart the node would run an older one", "error", err.Error())
	}
}

// saveConsumers puts changes of consumers on disk; none ask for all of them.
func (f *Follower) saveConsumers(changes []*streamv1.StreamResponse) {
	if f.unsaved.consumers {
		changes = nil
	}
	if len(changes) == 0 {
		f.disk.consumers.forgetDamaged()
	}
	if err := f.writeConsumers(changes); err != nil {
		f.log.Error("the last good consumers can't be written; after a restart the node would have older ones",
			"error", err.Error())
	}
}

// saveAgain writes what could not be written before, now and then: the disk may have room again before the next change comes.
func (f *Follower) saveAgain() {
	if f.unsaved == (unsaved{}) || f.state.revision == 0 || time.Since(f.savedAt) < retrySave {
		return
	}
	failed := f.unkept != [2]string{}
	var err error
	if f.unsaved.consumers {
		err = f.writeConsumers(nil)
	}
	if f.unsaved.snapshot && err == nil {
		err = f.write(nil)
	}
	if err == nil && failed {
		f.judge()
		f.log.Info("the last good snapshot is on disk again", "revision", f.state.revision)
	}
}

func (f *Follower) write(change *streamv1.StreamResponse) error {
	var changes []*streamv1.StreamResponse
	if change != nil {
		changes = append(changes, change)
	}
	err := f.disk.save(changes, f.state.records)
	f.unsaved.snapshot, f.savedAt, f.unkept[0] = err != nil, time.Now(), textOf(err)
	return err
}

func (f *Follower) writeConsumers(changes []*streamv1.StreamResponse) error {
	err := f.disk.consumers.save(changes, f.state.consumerRecords)
	f.unsaved.consumers, f.savedAt, f.unkept[1] = err != nil, time.Now(), textOf(err)
	return err
}

// textOf is "" for none.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Instance returns what the control plane tells this process by.
func (f *Follower) Instance() string { return f.instance }

// Lock returns the locked file of the data folder.
func (f *Follower) Lock() *os.File { return f.disk.lock }

// Close leaves the data folder to others.
func (f *Follower) Close() { f.disk.close() }

// Run is Follow and then Close.
func (f *Follower) Run(ctx context.Context) {
	defer f.Close()
	f.Follow(ctx)
}

// Follow follows until ctx ends, connecting again and again. It may be called again afterwards: who did so knows that another process may
// have written to the folder meanwhile, so the snapshot there is written anew.
func (f *Follower) Follow(ctx context.Context) {
	defer func() { f.unsaved = unsaved{true, true} }()
	retry := backoff.Exponential{Least: 2 * minBackoff}
	for turn := 0; ctx.Err() == nil; turn++ {
		address := f.set.Addresses[turn%len(f.set.Addresses)]
		begun := time.Now()
		err := f.follow(ctx, address)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > maxBackoff {
			retry.Reset()
		}
		retry.Most = maxBackoff
		if f.explain(address, err) {
			retry.Most = maxRefused
		}
		retry.Wait(ctx, nil)
		f.saveAgain()
	}
}
