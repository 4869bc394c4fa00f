package store

import (
	"context"
	"time"
)

const (
	// MaxAudit is how many entries of changes are kept, and MaxAuditRefusals how many of refusals, the newest: who makes
	// up refusals drives no change out.
	MaxAudit         = 100_000
	MaxAuditRefusals = 10_000
	// MaxAuditResources is how many resources an entry is found by.
	MaxAuditResources = 1_000
)

// The outcomes of what the audit trail has.
const (
	AuditDone    = "done"
	AuditRefused = "refused"
)

// AuditResource is what an entry is found by.
type AuditResource struct{ Kind, Name string }

// AuditEntry is one change, or refusals of one kind.
type AuditEntry struct {
	// ID counts up from 1, with gaps. The store gives it.
	ID uint64
	// At is when it was, in whole microseconds, UTC.
	At time.Time
	// Actor is who it was, Method how that was shown, User the person and TokenID the token, where there are any.
	Actor, Method, User, TokenID string
	// Address is where it came from, RequestID the call's own name.
	Address, RequestID string
	// Call is what was asked for, such as "RouteConfigService/CreateRoute".
	Call string
	// Outcome is AuditDone or AuditRefused, Code the error's, Reason what was said.
	Outcome, Code, Reason string
	// Message is why, as the caller says.
	Message string
	// Revision is what was committed; 0: nothing.
	Revision uint32
	// Count is how many calls it stands for, 1 at least.
	Count int
	// ChangeCount is how many changes there were, of which Changes may not have all.
	ChangeCount int
	// Changes are the changes with what was before and after, as JSON, without secrets; empty: none.
	Changes string
	// Resources are what was changed.
	Resources []AuditResource
}

// AuditList chooses entries. Zero values choose all.
type AuditList struct {
	Actor, Address, Call, Outcome, Kind, Name string
	Revision                                  uint32
	// Since and Before bound the time: Since is included, Before is not.
	Since, Before time.Time
	// Through is the newest entry that is wanted.
	Through uint64
	// Offset and Limit choose a part, newest first.
	Offset, Limit int
}

// Audit is the part of the store that remembers who did what.
type Audit interface {
	// Audit returns a part of the audit trail, newest first and without Resources, and how many entries there are in all.
	Audit(ctx context.Context, l AuditList) ([]AuditEntry, int, error)
	// KeepAudit adds entries, and removes those that are beyond what is kept.
	KeepAudit(ctx context.Context, entries ...AuditEntry) error
}
