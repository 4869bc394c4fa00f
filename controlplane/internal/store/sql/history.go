package sql

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/config"
)

const (
	// pruneBatch is how many revisions are removed in one transaction, which keeps writers out.
	pruneBatch = 500
	// purgeBatch is how many changes are looked at in one.
	purgeBatch = 500
	// scrubLimit is how long the engine may take to write everything anew.
	scrubLimit = 10 * time.Minute
)

// History implements store.Store.
func (s *Store) History(ctx context.Context) (store.History, error) {
	var h store.History
	err := s.reading(ctx, "read the state of the history", s.limits.read, func(ctx context.Context, tx *dbsql.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT oldest, purges FROM meta WHERE one = 1").Scan(&h.Oldest, &h.Purges)
	})
	return h, err
}

// Prune implements store.Store. Writers take turns with it, batch by batch.
func (s *Store) Prune(ctx context.Context, keep store.Keep, dry bool) (removed int, err error) {
	if dry {
		err = s.reading(ctx, "look at the history", s.limits.read, func(ctx context.Context, tx *dbsql.Tx) error {
			head, oldest, err := readHead(ctx, tx, selectHead)
			if err != nil {
				return err
			}
			first, err := firstKept(ctx, tx, head.Number, oldest, keep)
			removed = int(first - oldest)
			return err
		})
		return removed, err
	}
	for {
		n := 0
		err := s.writing(ctx, "prune the history", func(ctx context.Context, tx *dbsql.Tx) error {
			head, oldest, err := readHead(ctx, tx, s.dialect.lockHead())
			if err != nil {
				return err
			}
			first, err := firstKept(ctx, tx, head.Number, oldest, keep)
			if err != nil || first == oldest {
				return err
			}
			first = min(first, oldest+pruneBatch)
			for _, q := range []string{
				"DELETE FROM revision_changes WHERE revision < $1",
				"DELETE FROM revisions WHERE number < $1",
				"UPDATE meta SET oldest = $1 WHERE one = 1",
			} {
				if _, err := tx.ExecContext(ctx, q, int64(first)); err != nil {
					return err
				}
			}
			n = int(first - oldest)
			return nil
		})
		if err != nil || n == 0 {
			return removed, err
		}
		removed += n
	}
}

// firstKept returns the first revision that stays.
func firstKept(ctx context.Context, tx *dbsql.Tx, head, oldest uint32, keep store.Keep) (uint32, error) {
	first := head + 1 - min(uint32(max(keep.Newest, 1)), head)
	if !keep.Since.IsZero() {
		var since dbsql.NullInt64
		row := tx.QueryRowContext(ctx, "SELECT min(number) FROM revisions WHERE created_at >= $1", keep.Since.UnixMicro())
		if err := row.Scan(&since); err != nil {
			return oldest, err
		}
		if since.Valid {
			first = min(first, uint32(since.Int64))
		}
	}
	return max(first, oldest), nil
}

// PurgeSecrets implements store.Store.
func (s *Store) PurgeSecrets(ctx context.Context, dry bool) (store.Purged, error) {
	p := &purge{
		store: s, dry: dry,
		keys: map[string]bool{}, values: map[string]bool{}, names: map[string]bool{}, fields: map[string]bool{},
	}
	run, head := s.writing, s.dialect.lockHead() // nobody may go back to a secret meanwhile
	if dry {
		head = selectHead
		run = func(ctx context.Context, doing string, f func(context.Context, *dbsql.Tx) error) error {
			return s.reading(ctx, doing, s.limits.work, f)
		}
	}
	for more := true; more; {
		err := run(ctx, "purge secrets from the history", func(ctx context.Context, tx *dbsql.Tx) (err error) {
			more, err = p.batch(ctx, tx, head)
			return err
		})
		if err != nil {
			return store.Purged{}, err
		}
	}
	if !dry {
		if err := s.purged(ctx); err != nil {
			return store.Purged{}, err
		}
	}
	return store.Purged{
		Revisions: p.revisions, Keys: len(p.keys), Values: len(p.values),
		Certificates: slices.Sorted(maps.Keys(p.names)), Fields: slices.Sorted(maps.Keys(p.fields)),
	}, nil
}

// purged tells everybody who may remember secrets, and has the engine forget them. A purge that found nothing does so
// too: one before may have broken off.
func (s *Store) purged(ctx context.Context) error {
	err := s.writing(ctx, "say that the history was purged", func(ctx context.Context, tx *dbsql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE meta SET purges = purges + 1 WHERE one = 1"); err != nil {
			return err
		}
		return s.dialect.notify(ctx, tx, 0)
	})
	if err != nil {
		return err
	}
	s.hint()
	ctx, cancel, err := s.within(ctx, scrubLimit)
	if err != nil {
		return s.fault(ctx, "write the store anew", err)
	}
	defer cancel()
	if err := s.dialect.scrub(ctx, s.db); err != nil {
		return s.fault(ctx, "the secrets are out of the history, but not yet of the store's free space: repeat the purge", err)
	}
	return nil
}

// purge goes through the history from its beginning.
type purge struct {
	store         *Store
	dry           bool
	revision, seq int64 // how far it has come
	last          int64 // the last revision that was counted
	revisions     int

	keys, values, names, fields map[string]bool // of what went

	current map[string]bool // the secrets of the newest configuration
	head    store.Head      // that it is of; zero: none was read yet
}

// purgedChange is a row that secrets were taken out of.
type purgedChange struct {
	revision, seq int64
	before, after purgedSide
	fresh         bool // nothing was taken out of it earlier
}

// purgeable is one side of a row.
type purgeable struct{ body, settings, hash []byte }

// batch looks at some changes, and reports whether there are more. readsHead is the query for the head.
func (p *purge) batch(ctx context.Context, tx *dbsql.Tx, readsHead string) (more bool, err error) {
	head, _, err := readHead(ctx, tx, readsHead)
	if err != nil {
		return false, err
	}
	if !p.dry {
		if err := p.store.beforeSealing(ctx, tx); err != nil {
			return false, err
		}
	}
	if p.current == nil || p.head != head {
		if p.current, err = p.store.currentSecrets(ctx, tx); err != nil {
			return false, err
		}
		p.head = head
	}
	rows, err := tx.QueryContext(ctx, "SELECT revision, seq, kind, "+
		"before, before_settings, before_hash, after, after_settings, after_hash "+
		"FROM revision_changes WHERE revision > $1 OR revision = $1 AND seq > $2 ORDER BY revision, seq LIMIT $3",
		p.revision, p.seq, purgeBatch)
	if err != nil {
		return false, err
	}
	var changed []purgedChange
	n := 0
	err = each(ctx, rows, func() error {
		n++
		var kind string
		var before, after purgeable
		if err := rows.Scan(&p.revision, &p.seq, &kind, &before.body, &before.settings, &before.hash,
			&after.body, &after.settings, &after.hash); err != nil {
			return err
		}
		k, err := config.ParseKind(kind)
		if err != nil {
			return fmt.Errorf("revision %d: %w", p.revision, err)
		}
		ch := purgedChange{revision: p.revision, seq: p.seq, fresh: before.hash == nil && after.hash == nil}
		var one, other bool
		if ch.before, one, err = p.without(k, before); err != nil {
			return fmt.Errorf("revision %d: %w", p.revision, err)
		}
		if ch.after, other, err = p.without(k, after); err != nil {
			return fmt.Errorf("revision %d: %w", p.revision, err)
		}
		if !one && !other {
			return nil
		}
		changed = append(changed, ch)
		if p.revision != p.last {
			p.last = p.revision
			p.revisions++
		}
		return nil
	})
	if err != nil || p.dry {
		return n == purgeBatch, err
	}
	for _, ch := range changed {
		q := "UPDATE revision_changes SET before = $1, before_settings = $2, before_hash = $3, " +
			"after = $4, after_settings = $5, after_hash = $6 WHERE revision = $7 AND seq = $8"
		if _, err := tx.ExecContext(ctx, q, ch.before.body, ch.before.settings, ch.before.hash,
			ch.after.body, ch.after.settings, ch.after.hash, ch.revision, ch.seq); err != nil {
			return false, err
		}
		if !ch.fresh {
			continue
		}
		q = "UPDATE revisions SET purged_count = purged_count + 1 WHERE number = $1"
		if _, err := tx.ExecContext(ctx, q, ch.revision); err != nil {
			return false, err
		}
	}
	return n == purgeBatch, nil
}

// purgedSide is one side of such a row as it is kept.
type purgedSide struct{ body, settings, hash any }

// without returns a resource as it is kept without its secrets, but the current ones, with the hash of what was
// committed, and whether any was taken out. What a middleware took is in its settings too, which go.
func (p *purge) without(k config.Kind, s purgeable) (side purgedSide, taken bool, err error) {
	side = purgedSide{orNull(s.body), orNull(s.settings), orNull(s.hash)}
	e, err := p.store.entry(k, s.body, s.settings, s.hash)
	if err != nil || e == nil {
		return side, false, err
	}
	bare, secrets := config.WithoutSecrets(e.Message, p.current)
	if len(secrets) == 0 {
		return side, false, nil
	}
	for _, s := range secrets {
		if s.Field == "key_pem" {
			p.keys[s.Value], p.names[e.Name()] = true, true
		} else {
			p.values[s.Value], p.fields[fmt.Sprintf("%s %s: %s", k, e.Name(), s.Field)] = true, true
		}
	}
	hash := e.Hash()
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(bare) // no hash is of it
	if err == nil && len(config.Secrets(bare)) > 0 {
		body = p.store.seal.Seal(body, place(k, false))
	}
	return purgedSide{body, nil, hash[:]}, true, err
}

func orNull(raw []byte) any {
	if raw == nil {
		return nil
	}
	return raw
}

// currentSecrets are those of the newest configuration.
func (s *Store) currentSecrets(ctx context.Context, tx *dbsql.Tx) (map[string]bool, error) {
	current := map[string]bool{}
	for _, k := range config.Kinds() {
		rows, err := tx.QueryContext(ctx, "SELECT body FROM "+k.Plural())
		if err != nil {
			return nil, err
		}
		err = each(ctx, rows, func() error {
			var body dbsql.RawBytes
			if err := rows.Scan(&body); err != nil {
				return err
			}
			m := config.New(k)
			plain, err := s.seal.Open(body, place(k, false))
			if err != nil {
				return fmt.Errorf("read a %s: %w", k, err)
			}
			if err := proto.Unmarshal(plain, m); err != nil {
				return fmt.Errorf("read a %s: %w", k, err)
			}
			for _, s := range config.Secrets(m) {
				current[s.Value] = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return current, nil
}
