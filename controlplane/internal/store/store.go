// Package store is the port to where the configuration is kept: its newest state, and every revision that led there.
// Resources are kept, and given back, as the bytes that they were committed as, which hashes are of. Beside them are
// the leases and secrets that control planes share. It says what an engine has to promise; storetest checks that it
// does.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// The errors that callers tell apart, with errors.Is.
var (
	// ErrUnavailable is an engine that can't be reached, or can't write. It recovers by itself.
	ErrUnavailable = errors.New("the store is unavailable")
	// ErrUnknown is a commit whose end is not known: the engine broke off between doing and saying so.
	ErrUnknown = errors.New("the store broke off at the commit, whose outcome is unknown")
	// ErrNotFound is a revision that is not there; NotFoundError says which one.
	ErrNotFound = errors.New("there is no such revision")
	// ErrEpochChanged is a store that is not the one that was read before: its content was replaced.
	ErrEpochChanged = errors.New("the store's epoch has changed")
)

// NotFoundError is a revision that is not there. It is ErrNotFound.
type NotFoundError struct{ Number uint32 }

// Error implements error.
func (e *NotFoundError) Error() string { return fmt.Sprintf("there is no revision %d", e.Number) }

// Unwrap is for errors.Is.
func (e *NotFoundError) Unwrap() error { return ErrNotFound }

// PrunedError is a revision that is not kept any more.
type PrunedError struct {
	// Oldest is where the history begins.
	Oldest uint32
}

// Error implements error.
func (e *PrunedError) Error() string {
	return fmt.Sprintf("that revision is not kept any more: the history begins at revision %d", e.Oldest)
}

// Head is the newest revision. Revisions of different epochs are not comparable: a store that is restored from a backup
// and goes on from there is another epoch.
type Head struct {
	Epoch  string
	Number uint32
	// Hash is that of the configuration at Number, for calls that compare it with what is there; zero is not compared.
	// Load leaves it zero.
	Hash [32]byte
	// AllowedShrink is the newest revision with AllowShrink that was committed in this epoch; 0: none. Only Load says it.
	AllowedShrink uint32
}

// Revision is one committed state.
type Revision struct {
	// Number is from 1 without gaps.
	Number uint32
	// At is when it was committed.
	At time.Time
	// Author and Message are who and why.
	Author, Message string
	// RollbackOf is the revision that it goes back to; 0: none.
	RollbackOf uint32
	// AllowShrink says that it may be empty, or have lost most of its routes.
	AllowShrink bool
	// Hash is that of the whole configuration at this revision.
	Hash [32]byte
	// ChangeCount is the number of changes.
	ChangeCount int
	// PurgedCount is how many of them secrets have been taken out of. Hash is still that of what was committed.
	PurgedCount int
	// Changes are what leads here from the revision before; absent in lists.
	Changes []config.Change
}

// Draft is a revision to be.
type Draft struct {
	Author, Message string
	RollbackOf      uint32
	AllowShrink     bool
	Hash            [32]byte
	Changes         []config.Change
	// Audit, where it is not nil, is kept together with the revision, whose number it gets.
	Audit *AuditEntry
}

// List chooses revisions.
type List struct {
	// Author, when it is not empty, has to be the revision's.
	Author string
	// Through is the newest one that is wanted; 0: all.
	Through uint32
	// Offset and Limit choose a part, newest first.
	Offset, Limit int
}

// Keep says which revisions stay in the history. One goes when none of these asks for it; the newest always stays.
type Keep struct {
	// Newest is how many of the newest stay.
	Newest int
	// Since is when those were committed that stay, or later; zero: none stays for that.
	Since time.Time
}

// History is what the history is like.
type History struct {
	// Oldest is the first revision that is kept; 1 also while there is none.
	Oldest uint32
	// Purges counts how often secrets were taken out.
	Purges int64
}

// Purged is what was taken out of the history.
type Purged struct {
	// Revisions is how many revisions had secrets that went.
	Revisions int
	// Keys and Values are how many different keys of certificates, and values that files took from the environment, went.
	Keys, Values int
	// Certificates are the names that the keys belonged to, sorted.
	Certificates []string
	// Fields are what had the values, such as "middleware auth: config.token", sorted.
	Fields []string
}

// Discovered is what discovery found for a service. It is no part of the configuration, and outlives the control
// planes that found it.
type Discovered struct {
	// ServiceID is the service's id.
	ServiceID string
	// Question is what the service asked its registry for when this was the answer: equal texts ask for the same.
	Question string
	// Endpoints is the answer, by host and port; it may be empty.
	Endpoints []*configv1.Endpoint
	// ChangedAt is when the answer became this, as the control plane's clock says that kept it first.
	ChangedAt time.Time
}

// Store keeps the configuration. It is safe for concurrent use, and several may work on the same data at once.
type Store interface {
	// Load returns the newest state, by one consistent read.
	Load(ctx context.Context) (Head, *config.Config, error)
	// Since returns up to limit revisions after a head, oldest first, with their changes. It is ErrEpochChanged when
	// the store is of another epoch, older than that head, or has other content at it, and *PrunedError when revisions
	// in between are not kept any more.
	Since(ctx context.Context, after Head, limit int) ([]Revision, error)
	// Commit locks the head and calls plan with the revisions after base, oldest first. What plan returns is written as
	// the next revision, which is returned. It is ErrEpochChanged or *PrunedError where Since is. A nil draft commits
	// nothing, and an error of plan is returned as it is. plan is called once at most.
	Commit(ctx context.Context, base Head, plan func(newer []Revision) (*Draft, error)) (Revision, error)
	// BeginEpoch begins another epoch, if the store is still of the one that is named: its history is not the one that was
	// read from it before.
	BeginEpoch(ctx context.Context, of string) error
	// Revision returns one with its changes, *PrunedError when it is not kept any more, or *NotFoundError.
	Revision(ctx context.Context, number uint32) (Revision, error)
	// Revisions returns a part of the history, newest first and without changes, and how many there are in all.
	Revisions(ctx context.Context, l List) ([]Revision, int, error)
	// FirstChanges returns, of all changes after one revision up to another, the first one of each resource, in no
	// order: what it was before that is what it was at the first revision. It is *PrunedError when a revision of them is
	// not kept.
	FirstChanges(ctx context.Context, after, upTo uint32) ([]config.Change, error)
	// Prune removes old revisions from the history, and returns how many, or with dry how many it would. What the
	// configuration is does not change.
	Prune(ctx context.Context, keep Keep, dry bool) (int, error)
	// PurgeSecrets takes secrets out of the history, as config.WithoutSecrets does, but those that the newest
	// configuration has; with dry it only says what it would take. The hashes of what was committed stay. It also sees to
	// it that they are not left in what the engine has freed, as far as it can.
	PurgeSecrets(ctx context.Context, dry bool) (Purged, error)
	// History returns what the history is like.
	History(ctx context.Context) (History, error)
	// Watch returns a channel that hints that there may be something new: after commits, of whoever, and from time to
	// time. It is closed when ctx ends.
	Watch(ctx context.Context) <-chan struct{}
	// Acquire takes a lease for ttl, or extends it, and reports whether the holder has it: of all holders that ask for a
	// name only one has it at a time, as the engine's clock says. One that goes away without a Release loses it when ttl
	// is over.
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	// Release gives a lease back; of one that another holder has it is nothing.
	Release(ctx context.Context, name, holder string) error
	// Secret returns a secret that control planes share and that is no part of the configuration, such as the key of an
	// account. The first one who asks for a name decides what it is: fresh makes it.
	Secret(ctx context.Context, name string, fresh func() ([]byte, error)) ([]byte, error)
	// Discovered returns what is kept of discovery, one for each service. One that can't be read is logged and left out.
	Discovered(ctx context.Context) ([]Discovered, error)
	// KeepDiscovered keeps what was found, in place of what was kept for the same services, and forgets those whose ids
	// are in gone. It does so in one step; what is kept already costs no write.
	KeepDiscovered(ctx context.Context, found []Discovered, gone []string) error
	// Access is who may use the admin API.
	Access
	// Audit is who did what with it.
	Audit
	// Gatekeeper is who may join the fleet.
	Gatekeeper
	// Err returns why the engine can't be used, nil while it can. It does not wait: the store looks after the engine by
	// itself, and notices within seconds that it is away or there again.
	Err() error
	// Close gives everything back.
	Close() error
}
