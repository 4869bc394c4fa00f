package sql

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/backoff"
)

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, base store.Head, plan func([]store.Revision) (*store.Draft, error)) (store.Revision, error) {
	ctx, cancel, err := s.within(ctx, s.limits.work)
	if err != nil {
		return store.Revision{}, s.fault(ctx, "begin to commit", err)
	}
	defer cancel()
	if err := s.ready(ctx); err != nil {
		return store.Revision{}, err
	}
	if err := s.dialect.intact(); err != nil {
		return store.Revision{}, s.fault(ctx, "begin to commit", err)
	}
	w, err := beginWriting(ctx, s.db)
	if err != nil {
		return store.Revision{}, s.fault(ctx, "begin to commit", err)
	}
	defer w.end()
	head, oldest, err := readHead(ctx, w.tx, s.dialect.lockHead())
	if err != nil {
		return store.Revision{}, s.fault(ctx, "lock the head", err)
	}
	if err := continues(ctx, w.tx, head, oldest, base); isAnswer(err) {
		return store.Revision{}, err
	} else if err != nil {
		return store.Revision{}, s.fault(ctx, "compare the head", err)
	}
	if err := s.beforeSealing(ctx, w.tx); err != nil {
		return store.Revision{}, s.fault(ctx, "read the data keys", err)
	}
	newer, err := s.revisionsAfter(ctx, w.tx, base.Number, int(head.Number-base.Number))
	if err != nil {
		return store.Revision{}, s.fault(ctx, "read newer revisions", err)
	}
	idle := w.keepAlive(ctx, s.limits.keepAlive)
	draft, err := plan(newer)
	idle()
	if err != nil || draft == nil {
		return store.Revision{}, err
	}
	r := store.Revision{
		Number: head.Number + 1, At: time.Now().UTC().Truncate(time.Microsecond), Author: withoutNUL(draft.Author), Message: withoutNUL(draft.Message),
		RollbackOf: draft.RollbackOf, AllowShrink: draft.AllowShrink, Hash: draft.Hash, ChangeCount: len(draft.Changes), Changes: draft.Changes,
	}
	draftID := uuid.NewString()
	if draft.Audit != nil {
		draft.Audit.Revision = r.Number
	}
	if err := s.write(ctx, w, r, draftID, draft.Audit); err != nil {
		return store.Revision{}, s.fault(ctx, fmt.Sprintf("write revision %d", r.Number), err)
	}
	if ctx.Err() != nil { // nothing has been asked of the engine that could be in doubt
		return store.Revision{}, s.fault(ctx, "commit", ctx.Err())
	}
	if err := w.tx.Commit(); err != nil {
		w.end() // its connection may be the last of the pool, and its lock has to go where the engine still holds it
		if err := s.outcome(ctx, r.Number, draftID, err); err != nil {
			return store.Revision{}, err
		}
	}
	s.hint()
	return r, nil
}

// withoutNUL replaces the one character that PostgreSQL's text can't hold.
func withoutNUL(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }

func (s *Store) write(ctx context.Context, w *writing, r store.Revision, draftID string,
	audit *store.AuditEntry,
) error {
	if err := s.writeResources(ctx, w, r.Changes); err != nil {
		return err
	}
	q := "INSERT INTO revisions (" + revisionColumns + ", draft_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9)"
	_, err := w.tx.ExecContext(ctx, q,
		int64(r.Number), r.At.UnixMicro(), r.Author, r.Message, int64(r.RollbackOf), r.AllowShrink, r.Hash[:], int64(r.ChangeCount), draftID)
	if err != nil {
		return err
	}
	rows := make([][]any, len(r.Changes))
	idle := w.keepAlive(ctx, s.limits.keepAlive)
	defer idle()
	for i, ch := range r.Changes {
		before, after := s.sealed(ch.Before), s.sealed(ch.After)
		rows[i] = []any{int64(r.Number), int64(i), ch.Kind.String(), ch.ID(),
			orNull(before.Body), orNull(after.Body), orNull(before.Settings), orNull(after.Settings)}
	}
	columns := []string{"revision", "seq", "kind", "resource_id", "before", "after", "before_settings", "after_settings"}
	idle()
	if err := s.dialect.insert(ctx, w, "revision_changes", columns, rows); err != nil {
		return err
	}
	if audit != nil {
		if err := s.writeAudits(ctx, w.tx, []store.AuditEntry{*audit}); err != nil {
			return err
		}
	}
	q = "UPDATE meta SET head = $1, allowed_shrink = CASE WHEN $2 THEN $1 ELSE allowed_shrink END WHERE one = 1"
	if _, err := w.tx.ExecContext(ctx, q, int64(r.Number), r.AllowShrink); err != nil {
		return err
	}
	return s.dialect.notify(ctx, w.tx, r.Number)
}

// outcome finds out what became of a commit whose answer did not arrive: nil when it was done. It goes on after the
// caller has gone, since somebody has to know, and tries again while the engine restarts.
func (s *Store) outcome(ctx context.Context, number uint32, draftID string, commitErr error) error {
	if s.dialect.permanent(commitErr) {
		return s.fault(ctx, "commit", commitErr)
	}
	look, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), s.limits.outcome, errNoAnswer)
	defer cancel()
	retry := backoff.Exponential{Least: 10 * time.Millisecond, Most: time.Second}
	for {
		committed, err := s.committed(look, number, draftID)
		switch {
		case err == nil && committed:
			return nil
		case err == nil:
			return s.fault(ctx, "commit", commitErr)
		}
		if !retry.Wait(look, nil) {
			return fmt.Errorf("%w: %s", store.ErrUnknown, commitErr.Error())
		}
	}
}

// committed looks under the head's lock: the commit may still be under way on a connection that only this side has
// lost, and whoever has the lock after it sees how it ended.
func (s *Store) committed(ctx context.Context, number uint32, draftID string) (bool, error) {
	w, err := beginWriting(ctx, s.db)
	if err != nil {
		return false, err
	}
	defer w.end()
	_, oldest, err := readHead(ctx, w.tx, s.dialect.lockHead())
	if err != nil {
		return false, err
	}
	if number < oldest {
		return false, &store.PrunedError{Oldest: oldest} // nobody knows any more whose it was
	}
	var n int
	err = w.tx.QueryRowContext(ctx, "SELECT count(*) FROM revisions WHERE draft_id = $1", draftID).Scan(&n)
	return n == 1, err
}
