// Package catalog is the control plane's read model: the newest configuration and the discovered endpoints, published
// as immutable versions. Commits go through it, so that whoever changed something sees it in what is read next. It does
// not know who reads.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/backoff"
	"gateway.internal/shared/config"
)

// Version is one committed configuration.
type Version struct {
	Epoch       string
	Revision    uint32
	Config      *config.Config
	CommittedAt time.Time
	RollbackOf  uint32
	AllowShrink bool
	// AllowedShrink is the newest revision with AllowShrink that was committed in this epoch, up to this one; 0: none.
	AllowedShrink uint32

	cost int // of keeping it beside the next one, in bytes; under the catalog's mu
}

// head is the version as a place in the store's history.
func (v *Version) head() store.Head {
	return store.Head{Epoch: v.Epoch, Number: v.Revision, Hash: v.Config.Hash()}
}

// Catalog is safe for concurrent use.
type Catalog struct {
	store store.Store
	log   *slog.Logger

	current   atomic.Pointer[Version]
	endpoints atomic.Pointer[EndpointsVersion]
	storeErr  atomic.Pointer[error]
	oldest    atomic.Uint32 // the first revision that the history has, as far as is known

	mu            sync.Mutex          // of what is kept, changed and all publishing
	kept          []*Version          // ascending
	recalled      []*recalled         // from the history
	notGiven      map[uint32]bool     // revisions of this epoch that are errNotGiven
	purges        int64               // those of the history when versions were last let go of; changed under commits
	keptEndpoints []*EndpointsVersion // ascending
	changed       chan struct{}
	recalls       turns     // taken to recall a version
	commits       turns     // taken for a commit: this process's writers take turns
	begun         time.Time // when an epoch began on a node's word; under commits
}

// epochInterval is how often an epoch begins on a node's word at most.
const epochInterval = time.Minute

// New returns a catalog that has not been loaded.
func New(s store.Store, log *slog.Logger) *Catalog {
	c := &Catalog{store: s, log: log, changed: make(chan struct{}), commits: newTurns(), recalls: newTurns()}
	c.endpoints.Store(&EndpointsVersion{})
	return c
}

// Current returns the newest version; nil before the first load.
func (c *Catalog) Current() *Version { return c.current.Load() }

// At returns a version that is still kept, or nil.
func (c *Catalog) At(epoch string, revision uint32) *Version {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.kept {
		if v.Epoch == epoch && v.Revision == revision {
			return v
		}
	}
	return nil
}

// Changed returns a channel that is closed at the next version of configuration or endpoints. Get it, then look, then
// wait.
func (c *Catalog) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// StoreError returns why the store can't be read or written; nil when it can. It does not wait.
func (c *Catalog) StoreError() error {
	if err := c.store.Err(); err != nil {
		return err
	}
	if p := c.storeErr.Load(); p != nil {
		return *p
	}
	return nil
}

// wake closes the changed channel; the caller holds mu.
func (c *Catalog) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Run loads the configuration and follows the store until ctx ends. While the store is away, what is known stays.
func (c *Catalog) Run(ctx context.Context) error {
	retry := backoff.Exponential{Least: 100 * time.Millisecond, Most: 5 * time.Second}
	hints := c.store.Watch(ctx)
	for {
		err := c.Refresh(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		if err != nil {
			if c.storeErr.Load() == nil && c.store.Err() == nil { // the store itself says that it is away
				c.log.Error("the store can't be read; what is known stays", "error", err.Error())
			}
			c.storeErr.Store(&err)
			if !retry.Wait(ctx, hints) { // a hint: it is there again, or somebody has committed
				return nil
			}
			continue
		}
		c.storeErr.Store(nil)
		retry.Reset()
		select {
		case <-ctx.Done():
			return nil
		case <-hints:
		}
	}
}

// refreshBatch is how many revisions are read at once; further behind, everything is read anew.
const refreshBatch = 100

// Refresh reads what others have committed: what the store had when it was called is known when it returns.
func (c *Catalog) Refresh(ctx context.Context) error {
	if err := c.commits.take(ctx); err != nil {
		return err
	}
	defer c.commits.leave()
	return c.refresh(ctx)
}

// refresh is Refresh by who has a turn of commits.
func (c *Catalog) refresh(ctx context.Context) error {
	v := c.Current()
	if v == nil {
		return c.reload(ctx)
	}
	newer, err := c.store.Since(ctx, v.head(), refreshBatch)
	_, pruned := errors.AsType[*store.PrunedError](err)
	switch {
	case pruned:
		return c.reload(ctx)
	case errors.Is(err, store.ErrEpochChanged):
		return c.replaced(ctx, v)
	case err != nil:
		return err
	case len(newer) == refreshBatch, cannotFollow(newer):
		return c.reload(ctx)
	}
	if err := c.follow(newer); err != nil {
		c.log.Error("a revision does not fit; loading everything", "error", err.Error())
		return c.reload(ctx)
	}
	return c.seeHistory(ctx)
}

// reload loads everything, and takes over what has become of the history: what can't be followed may have been purged.
func (c *Catalog) reload(ctx context.Context) error {
	if err := c.load(ctx); err != nil {
		return err
	}
	return c.seeHistory(ctx)
}

// cannotFollow reports whether something has been taken out of revisions: what they lead to can't be had from them.
func cannotFollow(newer []store.Revision) bool {
	return slices.ContainsFunc(newer, func(r store.Revision) bool { return r.PurgedCount > 0 })
}

// SeeHistory takes over what has become of the history: of revisions that were pruned, and of versions that may have
// secrets that were purged, nothing is known any more. Other processes do so when they next look at the store.
func (c *Catalog) SeeHistory(ctx context.Context) error {
	if err := c.commits.take(ctx); err != nil {
		return err
	}
	defer c.commits.leave()
	return c.seeHistory(ctx)
}

func (c *Catalog) seeHistory(ctx context.Context) error {
	h, err := c.store.History(ctx)
	if err != nil {
		return err
	}
	c.oldest.Store(h.Oldest)
	if h.Purges == c.purges {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.purges = h.Purges
	c.forgetRecalled()
	if n := len(c.kept); n > 0 {
		c.kept = []*Version{c.kept[n-1]}
	}
	return nil
}

// replaced takes over a store whose history is not the one that v was read from. Where that was not said by a new
// epoch, as whoever restores a backup should, a new one begins here: numbers of two histories are not comparable, and
// nodes that know the other one would keep it.
func (c *Catalog) replaced(ctx context.Context, v *Version) error {
	if err := c.reload(ctx); err != nil {
		return err
	}
	if now := c.Current(); now.Epoch != v.Epoch {
		c.log.Warn("the store is of another epoch: its content was replaced", "revision", now.Revision, "known", v.Revision)
		return nil
	}
	return c.beginEpoch(ctx, v)
}

// beginEpoch begins a new epoch in place of v's.
func (c *Catalog) beginEpoch(ctx context.Context, v *Version) error {
	if err := c.store.BeginEpoch(ctx, v.Epoch); err != nil {
		return err
	}
	if err := c.reload(ctx); err != nil {
		return err
	}
	c.log.Error("the store's history went back: it was restored, or has lost commits; a new epoch begins, and nodes follow it",
		"revision", c.Current().Revision, "known", v.Revision)
	return nil
}

// NodeRuns is told what a node says that it runs. A revision that this store has not come to, though it is asked just
// now, is of a history that was lost: a new epoch begins, since the node would wait for a later revision than that one.
func (c *Catalog) NodeRuns(ctx context.Context, epoch string, revision uint32) error {
	if v := c.Current(); v == nil || epoch != v.Epoch || revision <= v.Revision {
		return nil
	}
	if err := c.commits.take(ctx); err != nil {
		return err
	}
	defer c.commits.leave()
	v := c.Current()
	if epoch != v.Epoch || revision <= v.Revision { // seen while this waited, for another node
		return nil
	}
	if err := c.refresh(ctx); err != nil {
		return err
	}
	v = c.Current()
	if epoch != v.Epoch || revision <= v.Revision || !c.begun.IsZero() && time.Since(c.begun) < epochInterval {
		return nil
	}
	c.begun = time.Now()
	return c.beginEpoch(ctx, &Version{Epoch: epoch, Revision: revision})
}

func (c *Catalog) load(ctx context.Context) error {
	head, conf, err := c.store.Load(ctx)
	if err != nil {
		return err
	}
	v := &Version{Epoch: head.Epoch, Revision: head.Number, Config: conf, CommittedAt: time.Now(),
		AllowedShrink: head.AllowedShrink}
	if head.Number > 0 {
		r, err := c.store.Revision(ctx, head.Number)
		if err != nil {
			return err
		}
		if r.Hash != conf.Hash() {
			return fmt.Errorf("the tables do not have the content that revision %d says", head.Number)
		}
		v.CommittedAt, v.RollbackOf, v.AllowShrink = r.At, r.RollbackOf, r.AllowShrink
	}
	conf.Table() // built once here: every later one is derived from it
	c.publish(v)
	return nil
}

// follow publishes revisions that others have committed.
func (c *Catalog) follow(newer []store.Revision) error {
	for _, r := range newer {
		v := c.Current()
		next, err := v.Config.With(r.Changes)
		if err != nil {
			return fmt.Errorf("revision %d: %w", r.Number, err)
		}
		if next.Hash() != r.Hash {
			return fmt.Errorf("revision %d leads to another content than it says", r.Number)
		}
		next.Table()
		c.publish(v.next(r, next))
	}
	return nil
}

// next is the version that a revision makes of v.
func (v *Version) next(r store.Revision, conf *config.Config) *Version {
	next := &Version{Epoch: v.Epoch, Revision: r.Number, Config: conf, CommittedAt: r.At, RollbackOf: r.RollbackOf,
		AllowShrink: r.AllowShrink, AllowedShrink: v.AllowedShrink}
	if r.AllowShrink {
		next.AllowedShrink = r.Number
	}
	return next
}

// CommitRequest is what is to be changed.
type CommitRequest struct {
	Author, Message string
	RollbackOf      uint32
	AllowShrink     bool
	// DryRun plans without committing.
	DryRun bool
	// ExpectedRevision has to be the newest; 0 is not compared.
	ExpectedRevision uint32
	// Edits returns what is to be changed, given the newest version.
	Edits func(v *Version) ([]config.Edit, error)
	// Restore keeps the ids of what is put.
	Restore bool
	// Check, where it is not nil, refuses what would be changed, by its error.
	Check func(plan *config.Plan) error
	// Audit, where it is not nil, makes the entry of the audit trail that is kept together with the revision.
	Audit func(before *config.Config, plan *config.Plan) *store.AuditEntry
}

// Committed is what came of it.
type Committed struct {
	// Version is the newest version.
	Version *Version
	// Plan has changes and warnings.
	Plan *config.Plan
	// Committed is false for a dry run, and when nothing changes.
	Committed bool
}

// RevisionConflict is an ExpectedRevision that is not the newest.
type RevisionConflict struct{ Expected, Current uint32 }

// Error implements error.
func (e *RevisionConflict) Error() string {
	return fmt.Sprintf("the newest revision is %d, not %d: look at what changed and repeat", e.Current, e.Expected)
}

// Commit plans against the newest configuration, under the store's lock, and publishes the result before it returns.
func (c *Catalog) Commit(ctx context.Context, req CommitRequest) (*Committed, error) {
	if err := c.commits.takeToCommit(ctx, c.store); err != nil {
		return nil, err
	}
	defer c.commits.leave()
	v := c.Current()
	if v == nil {
		return nil, fmt.Errorf("%w: the configuration has not been loaded yet", store.ErrUnavailable)
	}
	if req.DryRun {
		plan, err := req.plan(v)
		if err != nil {
			return nil, err
		}
		return &Committed{Version: v, Plan: plan}, nil
	}
	done, err := c.commit(ctx, v, req)
	if _, pruned := errors.AsType[*store.PrunedError](err); pruned || errors.Is(err, errPurged) {
		if err := c.reload(ctx); err != nil {
			return nil, err
		}
		done, err = c.commit(ctx, c.Current(), req)
	}
	return done, err
}

// errPurged are revisions that what they lead to can't be had from.
var errPurged = errors.New("secrets have been taken out of revisions that are to be followed")

// commit is Commit from the newest version that is known. The caller has a turn of commits.
func (c *Catalog) commit(ctx context.Context, v *Version, req CommitRequest) (*Committed, error) {
	var plan *config.Plan
	r, err := c.store.Commit(ctx, v.head(), func(newer []store.Revision) (*store.Draft, error) {
		if cannotFollow(newer) {
			return nil, errPurged
		}
		if err := c.follow(newer); err != nil {
			return nil, err
		}
		v = c.Current()
		var err error
		if plan, err = req.plan(v); err != nil || len(plan.Changes) == 0 {
			return nil, err
		}
		draft := &store.Draft{
			Author: req.Author, Message: req.Message, RollbackOf: req.RollbackOf, AllowShrink: req.AllowShrink,
			Hash: plan.Config.Hash(), Changes: plan.Changes,
		}
		if req.Audit != nil {
			draft.Audit = req.Audit(v.Config, plan)
		}
		return draft, nil
	})
	if errors.Is(err, store.ErrEpochChanged) {
		if err := c.replaced(ctx, v); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	if r.Number == 0 {
		return &Committed{Version: v, Plan: plan}, nil
	}
	next := v.next(r, plan.Config)
	c.publish(next)
	return &Committed{Version: next, Plan: plan, Committed: true}, nil
}

func (req *CommitRequest) plan(v *Version) (*config.Plan, error) {
	if req.ExpectedRevision != 0 && req.ExpectedRevision != v.Revision {
		return nil, &RevisionConflict{req.ExpectedRevision, v.Revision}
	}
	edits, err := req.Edits(v)
	if err != nil {
		return nil, err
	}
	plan, err := v.Config.Plan(edits, config.PlanOptions{Now: time.Now(), NewID: uuid.NewString,
		AllowShrink: req.AllowShrink, Restore: req.Restore})
	if err == nil && req.Check != nil {
		err = req.Check(plan)
	}
	return plan, err
}

// ConfigAt returns the configuration at a past revision: from memory, or by undoing what came later. It is
// *store.NotFoundError for one that is not there.
func (c *Catalog) ConfigAt(ctx context.Context, revision uint32) (*config.Config, error) {
	v := c.Current()
	if v == nil {
		return nil, fmt.Errorf("%w: the configuration has not been loaded yet", store.ErrUnavailable)
	}
	if revision > v.Revision {
		return nil, &store.NotFoundError{Number: revision}
	}
	if oldest := c.oldest.Load(); revision < oldest && revision > 0 {
		return nil, &store.PrunedError{Oldest: oldest}
	}
	if kept := c.At(v.Epoch, revision); kept != nil {
		return kept.Config, nil
	}
	undo, err := c.store.FirstChanges(ctx, revision, v.Revision)
	if err != nil {
		return nil, err
	}
	undo = slices.DeleteFunc(config.Invert(undo), func(ch config.Change) bool { // what has come and gone since
		return ch.After == nil && v.Config.ByID(ch.Kind, ch.ID()) == nil
	})
	conf, err := v.Config.With(undo)
	if err != nil {
		return nil, fmt.Errorf("go back from revision %d to %d: %w", v.Revision, revision, err)
	}
	if revision == 0 {
		return conf, nil
	}
	r, err := c.store.Revision(ctx, revision)
	if err != nil {
		return nil, err
	}
	if r.Hash != conf.Hash() {
		return nil, fmt.Errorf("the history does not lead to the content that revision %d says", revision)
	}
	return conf, nil
}
