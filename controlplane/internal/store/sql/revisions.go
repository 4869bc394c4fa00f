package sql

import (
	"bytes"
	"cmp"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/config"
)

const revisionColumns = "number, created_at, author, message, rollback_of, allow_shrink, hash, " +
	"change_count, purged_count"

func scanRevision(row interface{ Scan(...any) error }) (store.Revision, error) {
	var r store.Revision
	var micros int64
	var hash []byte
	if err := row.Scan(&r.Number, &micros, &r.Author, &r.Message, &r.RollbackOf, &r.AllowShrink, &hash,
		&r.ChangeCount, &r.PurgedCount); err != nil {
		return r, err
	}
	r.At = time.UnixMicro(micros).UTC()
	copy(r.Hash[:], hash)
	return r, nil
}

// Since implements store.Store.
func (s *Store) Since(ctx context.Context, after store.Head, limit int) ([]store.Revision, error) {
	var list []store.Revision
	err := s.reading(ctx, "read revisions", s.limits.read, func(ctx context.Context, tx *dbsql.Tx) (err error) {
		head, oldest, err := readHead(ctx, tx, selectHead)
		if err != nil {
			return err
		}
		if err := continues(ctx, tx, head, oldest, after); err != nil {
			return err
		}
		list, err = s.revisionsAfter(ctx, tx, after.Number, limit)
		return err
	})
	return list, err
}

// continues reports, as store.ErrEpochChanged, that the history that leads to head is not the one that known was read
// from, and as *store.PrunedError that the way from there is not kept. Of a revision that is not kept it can't be seen
// whether it was the same: everything has to be read anew, which does for both.
func continues(ctx context.Context, tx *dbsql.Tx, head store.Head, oldest uint32, known store.Head) error {
	switch {
	case head.Epoch != known.Epoch || head.Number < known.Number:
		return store.ErrEpochChanged
	case known.Number+1 < oldest:
		return &store.PrunedError{Oldest: oldest}
	}
	if known.Number == 0 || known.Hash == [32]byte{} {
		return nil
	}
	var hash []byte
	switch err := tx.QueryRowContext(ctx, "SELECT hash FROM revisions WHERE number = $1", int64(known.Number)).Scan(&hash); {
	case errors.Is(err, dbsql.ErrNoRows) && known.Number < oldest:
		return &store.PrunedError{Oldest: oldest}
	case errors.Is(err, dbsql.ErrNoRows):
		return store.ErrEpochChanged
	case err != nil:
		return err
	case !bytes.Equal(hash, known.Hash[:]):
		return store.ErrEpochChanged
	}
	return nil
}

// BeginEpoch implements store.Store.
func (s *Store) BeginEpoch(ctx context.Context, of string) error {
	return s.writing(ctx, "begin an epoch", func(ctx context.Context, tx *dbsql.Tx) error {
		q := "UPDATE meta SET epoch = $1, allowed_shrink = 0 WHERE one = 1 AND epoch = $2"
		_, err := tx.ExecContext(ctx, q, uuid.NewString(), of)
		return err
	})
}

// revisionsAfter returns revisions after a number with their changes.
func (s *Store) revisionsAfter(ctx context.Context, tx *dbsql.Tx, number uint32, limit int) ([]store.Revision, error) {
	rows, err := tx.QueryContext(ctx, "SELECT "+revisionColumns+" FROM revisions WHERE number > $1 ORDER BY number LIMIT $2", int64(number), limit)
	if err != nil {
		return nil, err
	}
	var list []store.Revision
	if err := each(ctx, rows, func() error {
		r, err := scanRevision(rows)
		list = append(list, r)
		return err
	}); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, nil
	}
	first, last := list[0].Number, list[len(list)-1].Number
	const between = "FROM revision_changes c WHERE revision >= $1 AND revision <= $2 ORDER BY revision, seq"
	err = s.eachChange(ctx, tx, between, func(revision uint32, ch config.Change) {
		list[revision-first].Changes = append(list[revision-first].Changes, ch)
	}, int64(first), int64(last))
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (s *Store) changesOf(ctx context.Context, tx *dbsql.Tx, r store.Revision) ([]config.Change, error) {
	changes := make([]config.Change, 0, r.ChangeCount)
	err := s.eachChange(ctx, tx, "FROM revision_changes c WHERE revision = $1 ORDER BY seq",
		func(_ uint32, ch config.Change) {
			changes = append(changes, ch)
		}, int64(r.Number))
	return changes, err
}

// eachChange calls take for the changes that the rest of a query yields, with the revisions that they are of.
func (s *Store) eachChange(ctx context.Context, tx *dbsql.Tx, from string, take func(revision uint32, ch config.Change),
	args ...any) error {
	rows, err := tx.QueryContext(ctx, "SELECT c.revision, c.kind, c.before, c.after, c.before_settings, c.after_settings, "+
		"c.before_hash, c.after_hash "+from, args...)
	if err != nil {
		return err
	}
	return each(ctx, rows, func() error {
		var revision uint32
		var kind string
		var before, after, beforeSettings, afterSettings, beforeHash, afterHash dbsql.RawBytes
		if err := rows.Scan(&revision, &kind, &before, &after, &beforeSettings, &afterSettings,
			&beforeHash, &afterHash); err != nil {
			return err
		}
		k, err := config.ParseKind(kind)
		if err != nil {
			return fmt.Errorf("revision %d: %w", revision, err)
		}
		ch := config.Change{Kind: k}
		if ch.Before, err = s.entry(k, before, beforeSettings, beforeHash); err != nil {
			return fmt.Errorf("revision %d: %w", revision, err)
		}
		if ch.After, err = s.entry(k, after, afterSettings, afterHash); err != nil {
			return fmt.Errorf("revision %d: %w", revision, err)
		}
		take(revision, ch)
		return nil
	})
}

// FirstChanges implements store.Store.
func (s *Store) FirstChanges(ctx context.Context, after, upTo uint32) ([]config.Change, error) {
	var list []config.Change
	err := s.reading(ctx, "read changes", s.limits.read, func(ctx context.Context, tx *dbsql.Tx) error {
		_, oldest, err := readHead(ctx, tx, selectHead)
		switch {
		case err != nil:
			return err
		case after+1 < oldest:
			return &store.PrunedError{Oldest: oldest}
		}
		list = nil
		// The place of a resource's first change is one number, by which its row is found at once.
		return s.eachChange(ctx, tx, `FROM (
				SELECT min(revision * 4294967296 + seq) AS place FROM revision_changes
				WHERE revision > $1 AND revision <= $2 GROUP BY kind, resource_id
			) f JOIN revision_changes c ON c.revision = f.place / 4294967296 AND c.seq = f.place % 4294967296`,
			func(_ uint32, ch config.Change) { list = append(list, ch) }, int64(after), int64(upTo))
	})
	return list, err
}

// hashOf is nil for NULL.
func hashOf(raw []byte) *[32]byte {
	if len(raw) != 32 {
		return nil
	}
	h := [32]byte(raw)
	return &h
}

// stored returns a resource as it is kept; nothing for none.
func stored(e *config.Entry) config.Stored {
	if e == nil {
		return config.Stored{}
	}
	return e.Stored()
}

// entry returns what was kept, whose bytes the driver still owns. NULL is nil, while a resource has a byte at least.
func (s *Store) entry(k config.Kind, body, settings, hash dbsql.RawBytes) (*config.Entry, error) {
	if body == nil {
		return nil, nil //nolint:nilnil // NULL
	}
	plain, err := s.seal.Open(body, place(k, false))
	if err != nil {
		return nil, fmt.Errorf("read a %s: %w", k, err)
	}
	own, err := s.seal.Open(settings, place(k, true))
	if err != nil {
		return nil, fmt.Errorf("read the settings of a %s: %w", k, err)
	}
	return config.FromStore(k, config.Stored{Body: bytes.Clone(plain), Settings: bytes.Clone(own), Hash: hashOf(hash)})
}

// Revision implements store.Store.
func (s *Store) Revision(ctx context.Context, number uint32) (store.Revision, error) {
	var r store.Revision
	err := s.reading(ctx, "read a revision", s.limits.read, func(ctx context.Context, tx *dbsql.Tx) (err error) {
		r, err = scanRevision(tx.QueryRowContext(ctx, "SELECT "+revisionColumns+" FROM revisions WHERE number = $1", int64(number)))
		if errors.Is(err, dbsql.ErrNoRows) {
			if _, oldest, err := readHead(ctx, tx, selectHead); err != nil || number < oldest && number > 0 {
				return cmp.Or[error](err, &store.PrunedError{Oldest: oldest})
			}
			return &store.NotFoundError{Number: number}
		}
		if err == nil {
			r.Changes, err = s.changesOf(ctx, tx, r)
		}
		return err
	})
	if err != nil {
		return store.Revision{}, err
	}
	return r, nil
}

// Revisions implements store.Store.
func (s *Store) Revisions(ctx context.Context, l store.List) ([]store.Revision, int, error) {
	var list []store.Revision
	var total int
	err := s.reading(ctx, "list revisions", s.limits.read, func(ctx context.Context, tx *dbsql.Tx) error {
		const which = " FROM revisions WHERE ($1 = '' OR author = $1) AND ($2 = 0 OR number <= $2)"
		if err := tx.QueryRowContext(ctx, "SELECT count(*)"+which, l.Author, int64(l.Through)).Scan(&total); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, "SELECT "+revisionColumns+which+" ORDER BY number DESC LIMIT $3 OFFSET $4",
			l.Author, int64(l.Through), l.Limit, l.Offset)
		if err != nil {
			return err
		}
		return each(ctx, rows, func() error {
			r, err := scanRevision(rows)
			list = append(list, r)
			return err
		})
	})
	if err != nil {
		return nil, 0, err
	}
	return list, total, nil
}
