// Package sql keeps the configuration in a relational database: PostgreSQL, for any number of control planes, or SQLite in one file,
// for one. The statements are the same for both; what differs is in one file each.
package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/pressly/goose/v3"
	"google.golang.org/protobuf/proto"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/config"
)

// pollInterval is how often Watch hints without a reason.
const pollInterval = 5 * time.Second

// Store implements store.Store.
type Store struct {
	db      *dbsql.DB
	dialect dialect
	log     *slog.Logger

	mu       sync.Mutex
	migrated bool
	watchers map[chan struct{}]struct{}
}

// Open returns the store of a URL: "postgres://..." or "embedded:PATH". PostgreSQL may be away: until it is there every call fails
// with store.ErrUnavailable. The schema is brought up to date at the first contact.
func Open(ctx context.Context, url string, log *slog.Logger) (*Store, error) {
	var db *dbsql.DB
	var d dialect
	var err error
	switch path, isFile := strings.CutPrefix(url, "embedded:"); {
	case isFile && path != "":
		db, d, err = openSQLite(path)
	case strings.HasPrefix(url, "postgres://"), strings.HasPrefix(url, "postgresql://"):
		db, d, err = openPostgreSQL(url, log)
	default:
		err = errors.New("the store has to be postgres://USER:PASSWORD@HOST:5432/DATABASE or embedded:PATH")
	}
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, dialect: d, log: log, watchers: map[chan struct{}]struct{}{}}
	if _, isFile := d.(*embedded); isFile {
		if err := s.ready(ctx); err != nil {
			_ = s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Close gives the database back.
func (s *Store) Close() error { return errors.Join(s.db.Close(), s.dialect.close()) }

// ready brings the schema up to date, once.
func (s *Store) ready(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.migrated {
		return nil
	}
	dir, name, opts, err := s.dialect.migrations()
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(name, s.db, dir, opts...)
	if err != nil {
		return s.fault("open the schema", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return s.fault("bring the schema up to date", err)
	}
	if _, err := s.db.ExecContext(ctx, "INSERT INTO meta (one, epoch, head) VALUES (1, $1, 0) ON CONFLICT (one) DO NOTHING", uuid.NewString()); err != nil {
		return s.fault("start the first epoch", err)
	}
	s.migrated = true
	return nil
}

// fault wraps an error of the engine: what is not of the request is of the engine's condition, and may pass.
func (s *Store) fault(doing string, err error) error {
	switch {
	case err == nil, errors.Is(err, store.ErrUnavailable):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), s.dialect.permanent(err):
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%w: %s: %s", store.ErrUnavailable, doing, err.Error())
}

// Load implements store.Store.
func (s *Store) Load(ctx context.Context) (store.Head, *config.Config, error) {
	if err := s.ready(ctx); err != nil {
		return store.Head{}, nil, err
	}
	tx, err := s.db.BeginTx(ctx, s.dialect.readOnly())
	if err != nil {
		return store.Head{}, nil, s.fault("begin to load", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	var head store.Head
	if err := tx.QueryRowContext(ctx, "SELECT epoch, head FROM meta WHERE one = 1").Scan(&head.Epoch, &head.Number); err != nil {
		return store.Head{}, nil, s.fault("load the head", err)
	}
	changes, err := readAll(ctx, tx)
	if err != nil {
		return store.Head{}, nil, s.fault("load the configuration", err)
	}
	c, err := config.Empty().With(changes)
	if err != nil {
		return store.Head{}, nil, fmt.Errorf("load the configuration: %w", err)
	}
	return head, c, nil
}

// Since implements store.Store.
func (s *Store) Since(ctx context.Context, after store.Head, limit int) ([]store.Revision, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	tx, err := s.db.BeginTx(ctx, s.dialect.readOnly())
	if err != nil {
		return nil, s.fault("begin to read revisions", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	var head store.Head
	if err := tx.QueryRowContext(ctx, "SELECT epoch, head FROM meta WHERE one = 1").Scan(&head.Epoch, &head.Number); err != nil {
		return nil, s.fault("read the head", err)
	}
	if head.Epoch != after.Epoch || head.Number < after.Number {
		return nil, store.ErrEpochChanged
	}
	revisions, err := s.after(ctx, tx, after.Number, limit)
	return revisions, s.fault("read revisions", err)
}

const revisionColumns = "number, created_at, author, message, rollback_of, allow_shrink, hash, change_count"

func scanRevision(row interface{ Scan(...any) error }) (store.Revision, error) {
	var r store.Revision
	var micros int64
	var hash []byte
	if err := row.Scan(&r.Number, &micros, &r.Author, &r.Message, &r.RollbackOf, &r.AllowShrink, &hash, &r.ChangeCount); err != nil {
		return r, err
	}
	r.At = time.UnixMicro(micros).UTC()
	copy(r.Hash[:], hash)
	return r, nil
}

// after returns revisions after a number with their changes.
func (s *Store) after(ctx context.Context, tx *dbsql.Tx, number uint32, limit int) ([]store.Revision, error) {
	rows, err := tx.QueryContext(ctx, "SELECT "+revisionColumns+" FROM revisions WHERE number > $1 ORDER BY number LIMIT $2", int64(number), limit)
	if err != nil {
		return nil, err
	}
	var list []store.Revision
	if err := each(rows, func() error {
		r, err := scanRevision(rows)
		list = append(list, r)
		return err
	}); err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Changes, err = changesOf(ctx, tx, list[i].Number); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func changesOf(ctx context.Context, tx *dbsql.Tx, number uint32) ([]config.Change, error) {
	rows, err := tx.QueryContext(ctx, "SELECT kind, before, after FROM revision_changes WHERE revision = $1 ORDER BY seq", int64(number))
	if err != nil {
		return nil, err
	}
	var changes []config.Change
	err = each(rows, func() error {
		var kind string
		var before, after []byte
		if err := rows.Scan(&kind, &before, &after); err != nil {
			return err
		}
		k, err := config.ParseKind(kind)
		if err != nil {
			return err
		}
		ch := config.Change{Kind: k}
		if before != nil {
			ch.Before = config.New(k)
			err = proto.Unmarshal(before, ch.Before)
		}
		if after != nil && err == nil {
			ch.After = config.New(k)
			err = proto.Unmarshal(after, ch.After)
		}
		changes = append(changes, ch)
		return err
	})
	return changes, err
}

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, base store.Head, plan func([]store.Revision) (*store.Draft, error)) (store.Revision, error) {
	if err := s.ready(ctx); err != nil {
		return store.Revision{}, err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return store.Revision{}, s.fault("begin to commit", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	var head store.Head
	if err := tx.QueryRowContext(ctx, s.dialect.lockHead()).Scan(&head.Epoch, &head.Number); err != nil {
		return store.Revision{}, s.fault("lock the head", err)
	}
	if head.Epoch != base.Epoch || head.Number < base.Number {
		return store.Revision{}, store.ErrEpochChanged
	}
	newer, err := s.after(ctx, tx, base.Number, int(head.Number-base.Number))
	if err != nil {
		return store.Revision{}, s.fault("read newer revisions", err)
	}
	draft, err := plan(newer)
	if err != nil || draft == nil {
		return store.Revision{}, err
	}
	r := store.Revision{
		Number: head.Number + 1, At: time.Now().UTC().Truncate(time.Microsecond), Author: draft.Author, Message: draft.Message,
		RollbackOf: draft.RollbackOf, AllowShrink: draft.AllowShrink, Hash: draft.Hash, ChangeCount: len(draft.Changes), Changes: draft.Changes,
	}
	draftID := uuid.NewString()
	if err := s.write(ctx, tx, r, draftID); err != nil {
		return store.Revision{}, s.fault(fmt.Sprintf("write revision %d", r.Number), err)
	}
	if err := tx.Commit(); err != nil {
		if err = s.outcome(draftID, err); err != nil {
			return store.Revision{}, err
		}
	}
	s.hint()
	return r, nil
}

func (s *Store) write(ctx context.Context, tx *dbsql.Tx, r store.Revision, draftID string) error {
	if err := writeChanges(ctx, tx, r.Changes); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO revisions ("+revisionColumns+", draft_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		int64(r.Number), r.At.UnixMicro(), r.Author, r.Message, int64(r.RollbackOf), r.AllowShrink, r.Hash[:], int64(r.ChangeCount), draftID)
	if err != nil {
		return err
	}
	rows := make([][]any, len(r.Changes))
	for i, ch := range r.Changes {
		before, err := encode(ch.Before)
		if err != nil {
			return err
		}
		after, err := encode(ch.After)
		if err != nil {
			return err
		}
		rows[i] = []any{int64(r.Number), int64(i), ch.Kind.String(), ch.ID(), before, after}
	}
	if err := insertRows(ctx, tx, "revision_changes", []string{"revision", "seq", "kind", "resource_id", "before", "after"}, rows); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE meta SET head = $1 WHERE one = 1", int64(r.Number)); err != nil {
		return err
	}
	return s.dialect.notify(ctx, tx, r.Number)
}

func encode(m config.Message) (any, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // NULL
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// outcome finds out what became of a commit whose answer did not arrive.
func (s *Store) outcome(draftID string, commitErr error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if s.dialect.permanent(commitErr) {
		return s.fault("commit", commitErr)
	}
	var n int
	if err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM revisions WHERE draft_id = $1", draftID).Scan(&n); err != nil {
		return fmt.Errorf("%w: %s", store.ErrUnknown, commitErr.Error())
	}
	if n == 1 {
		return nil
	}
	return fmt.Errorf("%w: commit: %s", store.ErrUnavailable, commitErr.Error())
}

// Revision implements store.Store.
func (s *Store) Revision(ctx context.Context, number uint32) (store.Revision, error) {
	if err := s.ready(ctx); err != nil {
		return store.Revision{}, err
	}
	tx, err := s.db.BeginTx(ctx, s.dialect.readOnly())
	if err != nil {
		return store.Revision{}, s.fault("begin to read a revision", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	r, err := scanRevision(tx.QueryRowContext(ctx, "SELECT "+revisionColumns+" FROM revisions WHERE number = $1", int64(number)))
	if errors.Is(err, dbsql.ErrNoRows) {
		return store.Revision{}, store.ErrNotFound
	}
	if err == nil {
		r.Changes, err = changesOf(ctx, tx, number)
	}
	return r, s.fault("read a revision", err)
}

// Revisions implements store.Store.
func (s *Store) Revisions(ctx context.Context, l store.List) ([]store.Revision, int, error) {
	if err := s.ready(ctx); err != nil {
		return nil, 0, err
	}
	var total int
	if err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM revisions WHERE $1 = '' OR author = $1", l.Author).Scan(&total); err != nil {
		return nil, 0, s.fault("count revisions", err)
	}
	rows, err := s.db.QueryContext(ctx, "SELECT "+revisionColumns+" FROM revisions WHERE $1 = '' OR author = $1 ORDER BY number DESC LIMIT $2 OFFSET $3", l.Author, l.Limit, l.Offset)
	if err != nil {
		return nil, 0, s.fault("list revisions", err)
	}
	var list []store.Revision
	err = each(rows, func() error {
		r, err := scanRevision(rows)
		list = append(list, r)
		return err
	})
	return list, total, s.fault("list revisions", err)
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	own := make(chan struct{}, 1)
	s.mu.Lock()
	s.watchers[own] = struct{}{}
	s.mu.Unlock()
	hint := func() {
		select {
		case own <- struct{}{}:
		default:
		}
	}
	var engine sync.WaitGroup
	engine.Go(func() { s.dialect.watch(ctx, hint) })
	go func() {
		tick := time.NewTicker(pollInterval)
		defer func() {
			tick.Stop()
			engine.Wait()
			s.mu.Lock()
			delete(s.watchers, own)
			s.mu.Unlock()
			close(out)
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case <-own:
			case <-tick.C:
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out
}

// hint tells this process's watchers.
func (s *Store) hint() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

var _ store.Store = (*Store)(nil)
