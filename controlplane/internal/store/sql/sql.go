// Package sql keeps the configuration in a relational database: PostgreSQL, for any number of control planes, or SQLite
// in one file, for one. The statements are the same for both; what differs is in one file each.
package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/pressly/goose/v3"

	"gateway.internal/controlplane/internal/seal"
	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/config"
	"gateway.internal/shared/secretkey"
)

// Store implements store.Store.
type Store struct {
	db      *dbsql.DB
	dialect dialect
	log     *slog.Logger
	limits  limits
	// maxTokens is store.MaxTokens, and so are the others.
	maxTokens, maxAudit, maxAuditRefusals int
	// seal encrypts secrets; nil: nothing does.
	seal *seal.Ring
	// seen are the data keys that seal has, as they are in the store; nil: none were read. Both change together, under
	// knowing.
	seen    atomic.Pointer[[]dataKey]
	knowing sync.Mutex
	// presence is whether the engine is there.
	presence *presence

	// migrated is set when the schema is up to date; migrating is held by the call that brings it there.
	migrated  atomic.Bool
	migrating chan struct{}

	// closing ends the watches, which Close waits for.
	closing context.Context
	stop    context.CancelFunc
	watches sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	watchers map[chan struct{}]struct{}
}

// limits are how long the engine may be silent. They are for one that is there and does not answer: a frozen server, or
// a network that swallows packets, would otherwise hold callers that have no deadline for ever. What takes long because
// there is much of it, or because the machine is busy, is not ended.
type limits struct {
	// read is for what reads some revisions, work for what reads or writes everything, outcome for finding out how a
	// commit ended, look for a look at whether the engine is there.
	read, work, outcome, look time.Duration
	// keepAlive is how often the engine hears of a transaction whose writer works out what to write: well within the
	// time after which it ends an idle one.
	keepAlive time.Duration
}

var errNoAnswer = errors.New("no answer in time")

// Open returns the store of a URL: "postgres://..." or "embedded:PATH". PostgreSQL may be away: until it is there every
// call fails with store.ErrUnavailable. The schema is brought up to date at the first contact.
func Open(ctx context.Context, url string, log *slog.Logger) (*Store, error) {
	return OpenSealed(ctx, url, nil, log)
}

// OpenSealed is Open of a store whose secrets are encrypted; no keys: new ones are not, and one that has encrypted ones
// fails. The first of the keys is used, and the others are those before it.
func OpenSealed(ctx context.Context, url string, keys []secretkey.Key, log *slog.Logger) (*Store, error) {
	var db *dbsql.DB
	var d dialect
	var err error
	path, isFile := strings.CutPrefix(url, "embedded:")
	switch {
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
	s := &Store{
		db: db, dialect: d, log: log, limits: limits{
			read: 15 * time.Second, work: time.Minute, outcome: 10 * time.Second, look: 2 * time.Second, keepAlive: time.Second,
		},
		maxTokens: store.MaxTokens, maxAudit: store.MaxAudit, maxAuditRefusals: store.MaxAuditRefusals,
		presence:  newPresence(),
		migrating: make(chan struct{}, 1), watchers: map[chan struct{}]struct{}{},
	}
	if len(keys) > 0 {
		s.seal = seal.NewRing(keys)
	}
	s.closing, s.stop = context.WithCancel(context.Background())
	if isFile {
		if err := s.ready(ctx); err != nil {
			_ = s.Close()
			return nil, err
		}
	}
	s.watches.Go(func() { s.lookAfter(s.closing) })
	return s, nil
}

// Close ends the watches and gives the database back.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.watches.Wait()
	return errors.Join(s.db.Close(), s.dialect.close())
}

// ready brings the schema up to date, once.
func (s *Store) ready(ctx context.Context) error {
	if s.migrated.Load() {
		return nil
	}
	select {
	case s.migrating <- struct{}{}:
		defer func() { <-s.migrating }()
	case <-ctx.Done():
		return s.fault(ctx, "wait for the schema", ctx.Err())
	}
	if s.migrated.Load() {
		return nil
	}
	dir, name, opts, err := s.dialect.migrations()
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(name, s.db, dir, opts...)
	if err != nil {
		return s.fault(ctx, "open the schema", err)
	}
	over := waitLong(ctx, s.limits.keepAlive)
	_, err = provider.Up(ctx)
	over()
	if err != nil {
		return s.fault(ctx, "bring the schema up to date", err)
	}
	if _, err := s.db.ExecContext(ctx, "INSERT INTO meta (one, epoch, head) VALUES (1, $1, 0) ON CONFLICT (one) DO NOTHING", uuid.NewString()); err != nil {
		return s.fault(ctx, "start the first epoch", err)
	}
	if err := s.keys(ctx); err != nil {
		return err
	}
	if err := s.fill(ctx); err != nil {
		return err
	}
	s.migrated.Store(true)
	return nil
}

// fault wraps an error of the engine, by whose fault it is: the caller's, who went away; that of what was asked for; or
// the engine's condition, which may pass.
func (s *Store) fault(ctx context.Context, doing string, err error) error {
	switch {
	case err == nil, errors.Is(err, store.ErrUnavailable), isSealing(err):
		return err
	case errors.Is(context.Cause(ctx), errNoAnswer):
		// As text: what a look has found may be an error of the driver's own.
		return fmt.Errorf("%w: %s: %s", store.ErrUnavailable, doing, context.Cause(ctx).Error())
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case s.dialect.permanent(err):
		return fmt.Errorf("%s: %w", doing, err)
	}
	if s.dialect.noRoom(err) {
		s.presence.noRoom()
	}
	// As text: a timeout of the driver's own is no deadline of the caller's, though errors.Is would say so.
	return fmt.Errorf("%w: %s: %s", store.ErrUnavailable, doing, err.Error())
}

// reading runs read in a transaction that sees one state, and again where that needs a data key that is not known yet.
func (s *Store) reading(ctx context.Context, doing string, limit time.Duration, read func(context.Context, *dbsql.Tx) error) error {
	err := s.readOnce(ctx, doing, limit, read)
	if s.learned(ctx, err) {
		err = s.readOnce(ctx, doing, limit, read)
	}
	return err
}

func (s *Store) readOnce(
	ctx context.Context, doing string, limit time.Duration, read func(context.Context, *dbsql.Tx) error,
) error {
	ctx, cancel, err := s.within(ctx, limit)
	if err != nil {
		return s.fault(ctx, doing, err)
	}
	defer cancel()
	if err := s.ready(ctx); err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, s.dialect.readOnly())
	if err != nil {
		return s.fault(ctx, doing, err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	err = read(ctx, tx)
	if isAnswer(err) || errors.Is(err, dbsql.ErrNoRows) {
		return err
	}
	return s.fault(ctx, doing, err)
}

// isAnswer reports whether an error is what the store has to say, and none of the engine.
func isAnswer(err error) bool {
	if _, pruned := errors.AsType[*store.PrunedError](err); pruned {
		return true
	}
	return errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrEpochChanged)
}

// Load implements store.Store.
func (s *Store) Load(ctx context.Context) (store.Head, *config.Config, error) {
	var head store.Head
	var changes []config.Change
	err := s.reading(ctx, "load the configuration", s.limits.work, func(ctx context.Context, tx *dbsql.Tx) (err error) {
		if head, _, err = readHead(ctx, tx, selectHead); err != nil {
			return err
		}
		q := "SELECT allowed_shrink FROM meta WHERE one = 1"
		if err := tx.QueryRowContext(ctx, q).Scan(&head.AllowedShrink); err != nil {
			return err
		}
		changes, err = s.readAll(ctx, tx)
		return err
	})
	if err != nil {
		return store.Head{}, nil, err
	}
	c, err := config.Empty().With(changes)
	if err != nil {
		return store.Head{}, nil, fmt.Errorf("load the configuration: %w", err)
	}
	return head, c, nil
}

const selectHead = "SELECT epoch, head, oldest FROM meta WHERE one = 1"

// readHead returns the newest revision, and the oldest one that is kept.
func readHead(ctx context.Context, tx *dbsql.Tx, query string) (head store.Head, oldest uint32, err error) {
	err = tx.QueryRowContext(ctx, query).Scan(&head.Epoch, &head.Number, &oldest)
	return head, oldest, err
}

var _ store.Store = (*Store)(nil)
