package sql

import (
	"bytes"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"gateway.internal/controlplane/internal/seal"
	"gateway.internal/shared/config"
)

// Resources with secrets, and secrets of the control plane's own, are sealed where the store has keys: as they are now
// and in the history. Others are not, so that people can read them. A resource's bytes have its id, so that they are
// bound to their kind only.

const (
	// rotateBatch is how many rows are sealed anew in one transaction, which keeps writers out.
	rotateBatch = 500
	secretPlace = "secrets"
)

// place is what the bytes of resources of a kind are sealed for.
func place(k config.Kind, settings bool) string {
	if settings {
		return k.Plural() + " settings"
	}
	return k.Plural() + " body"
}

// sealed returns a resource as it is written: its body and its settings are sealed where it has secrets.
func (s *Store) sealed(e *config.Entry) config.Stored {
	kept := stored(e)
	if s.seal == nil || e == nil || len(config.Secrets(e.Message)) == 0 {
		return kept
	}
	kept.Body = s.seal.Seal(kept.Body, place(e.Kind, false))
	kept.Settings = s.seal.Seal(kept.Settings, place(e.Kind, true))
	return kept
}

// keys reads the data keys, the first of which is made where there is none, and wraps those anew that another key than
// the current one has wrapped.
func (s *Store) keys(ctx context.Context) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.fault(ctx, "read the data keys", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	if err := s.dataKeys(ctx, tx, true); err != nil {
		return err
	}
	return s.fault(ctx, "read the data keys", tx.Commit())
}

// dataKey is a data key as it is in the store. Its id and when it was made tell it from others; who wraps it changes.
type dataKey struct {
	id, created int64
	by          string
	wrapped     []byte
}

func (k dataKey) equal(other dataKey) bool {
	return k.same(other) && k.by == other.by && bytes.Equal(k.wrapped, other.wrapped)
}

func (k dataKey) same(other dataKey) bool { return k.id == other.id && k.created == other.created }

// beforeSealing brings the data keys up to date in a transaction that will seal. Those that this process knows may be
// old, since another one has made a new one, or may not be in the store at all, since a backup was restored: what is
// sealed by such a key could be read by nobody once this process has ended.
func (s *Store) beforeSealing(ctx context.Context, tx *dbsql.Tx) error {
	if s.seal == nil {
		return nil
	}
	return s.dataKeys(ctx, tx, false)
}

// dataKeys knows the data keys that the store has, and no others. With wrap it wraps those anew that another key than
// the current one has wrapped.
func (s *Store) dataKeys(ctx context.Context, tx *dbsql.Tx, wrap bool) error {
	read := func() (list []dataKey, err error) {
		rows, err := tx.QueryContext(ctx, "SELECT id, created_at, wrapped_by, wrapped FROM data_keys ORDER BY id")
		if err != nil {
			return nil, err
		}
		return list, each(ctx, rows, func() error {
			var k dataKey
			if err := rows.Scan(&k.id, &k.created, &k.by, &k.wrapped); err != nil {
				return err
			}
			list = append(list, k)
			return nil
		})
	}
	list, err := read()
	if err != nil {
		return s.fault(ctx, "read the data keys", err)
	}
	if s.seal == nil {
		if len(list) > 0 {
			return fmt.Errorf("the store has secrets that are encrypted with the key %s: %w",
				list[len(list)-1].by, seal.ErrNoKey)
		}
		return nil
	}
	if len(list) == 0 {
		if err := s.makeDataKey(ctx, tx, 1); err != nil {
			return err
		}
		if list, err = read(); err != nil { // of whoever was first
			return s.fault(ctx, "read the data keys", err)
		}
	}
	var seen []dataKey
	if before := s.seen.Load(); before != nil {
		seen = *before
	}
	unchanged := slices.EqualFunc(seen, list, dataKey.equal)
	if unchanged && !wrap {
		return nil
	}
	ring := s.seal.Empty()
	for _, k := range list {
		again, err := ring.Add(k.id, k.by, k.wrapped)
		// Control planes that have the next key already may have wrapped it for themselves.
		if err != nil && !(slices.ContainsFunc(seen, k.same) && ring.Keep(s.seal, k.id)) {
			return fmt.Errorf("read the store's secrets: %w", err)
		}
		if again == nil || !wrap {
			continue
		}
		q := "UPDATE data_keys SET wrapped_by = $1, wrapped = $2 WHERE id = $3 AND wrapped_by = $4"
		if _, err := tx.ExecContext(ctx, q, s.seal.Current(), again, k.id, k.by); err != nil {
			return s.fault(ctx, "wrap a data key", err)
		}
		s.log.Info("wrapped a data key anew", "data_key", k.id, "key", s.seal.Current(), "before", k.by)
	}
	if unchanged {
		return nil
	}
	s.knowing.Lock()
	defer s.knowing.Unlock()
	s.seal.Become(ring)
	s.seen.Store(&list)
	return nil
}

func (s *Store) makeDataKey(ctx context.Context, tx *dbsql.Tx, id int64) error {
	wrapped, err := s.seal.Make(id)
	if err != nil {
		return err
	}
	q := "INSERT INTO data_keys (id, wrapped_by, wrapped, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING"
	_, err = tx.ExecContext(ctx, q, id, s.seal.Current(), wrapped, time.Now().UnixMicro())
	return s.fault(ctx, "keep a data key", err)
}

// learned reports whether an error may be of a data key that another process has made, and others are known now than
// before. Bytes that look broken may be sealed by a key of the same id, after a backup was restored.
func (s *Store) learned(ctx context.Context, err error) bool {
	_, unknown := errors.AsType[*seal.UnknownKeyError](err)
	if s.seal == nil || !unknown && !errors.Is(err, seal.ErrBroken) {
		return false
	}
	before := s.seen.Load()
	return s.keys(ctx) == nil && s.seen.Load() != before
}

// isSealing reports whether an error is about what is sealed, and none of the engine.
func isSealing(err error) bool {
	_, unknown := errors.AsType[*seal.UnknownKeyError](err)
	_, wrapped := errors.AsType[*seal.WrappedError](err)
	return unknown || wrapped || errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrBroken)
}

// Rotated is what Rotate has done.
type Rotated struct {
	// DataKey is the new data key's id, and Rows how many resources, changes and secrets were encrypted with it.
	DataKey int64
	Rows    int
}

// Rotate makes a new data key and encrypts all secrets with it, also those that were not encrypted yet. Other control
// planes may serve and write meanwhile: they learn the new key where they find it. The old data keys stay, since copies
// of the store may need them.
func (s *Store) Rotate(ctx context.Context) (Rotated, error) {
	if s.seal == nil {
		return Rotated{}, fmt.Errorf("nothing can be encrypted: %w", errNoKeys)
	}
	if err := s.ready(ctx); err != nil {
		return Rotated{}, err
	}
	var done Rotated
	err := s.writing(ctx, "make a data key", func(ctx context.Context, tx *dbsql.Tx) error {
		if err := s.dataKeys(ctx, tx, true); err != nil {
			return err
		}
		if err := s.makeDataKey(ctx, tx, s.seal.Newest()+1); err != nil {
			return err
		}
		return s.dataKeys(ctx, tx, true)
	})
	if err != nil {
		return Rotated{}, err
	}
	done.DataKey = s.seal.Newest()
	for _, k := range config.Kinds() {
		n, err := s.rotateKind(ctx, k)
		if done.Rows += n; err != nil {
			return done, err
		}
	}
	n, err := s.rotateChanges(ctx)
	if done.Rows += n; err != nil {
		return done, err
	}
	n, err = s.rotateSecrets(ctx)
	if done.Rows += n; err != nil {
		return done, err
	}
	scrubbing, cancel, err := s.within(ctx, scrubLimit)
	if err != nil {
		return done, s.fault(ctx, "write the store anew", err)
	}
	defer cancel()
	if err := s.dialect.scrub(scrubbing, s.db); err != nil {
		const left = "all is encrypted, but what was there before is not yet out of the store's free space: repeat it"
		return done, s.fault(ctx, left, err)
	}
	return done, nil
}

var errNoKeys = errors.New("--encryption-key-file or GATEWAY_ENCRYPTION_KEY is required")

// anew returns a resource's bytes as they are to be kept; changed is false where they are so already.
func (s *Store) anew(k config.Kind, body, settings, hash []byte) (kept config.Stored, changed bool, err error) {
	if body == nil || seal.SealedBy(body) == s.seal.Newest() {
		return kept, false, nil
	}
	e, err := s.entry(k, body, settings, hash)
	if err != nil {
		return kept, false, err
	}
	kept = s.sealed(e)
	return kept, seal.SealedBy(kept.Body) != 0, nil
}

// rotateKind seals the resources of a kind anew.
func (s *Store) rotateKind(ctx context.Context, k config.Kind) (rows int, err error) {
	t, last := tables()[k], ""
	type row struct {
		id   string
		kept config.Stored
	}
	for more := true; more; {
		err := s.writing(ctx, "encrypt "+k.Plural(), func(ctx context.Context, tx *dbsql.Tx) error {
			if _, _, err := readHead(ctx, tx, s.dialect.lockHead()); err != nil {
				return err
			}
			if err := s.beforeSealing(ctx, tx); err != nil {
				return err
			}
			q := fmt.Sprintf("SELECT id, body, %s FROM %s WHERE id > $1 ORDER BY id LIMIT %d",
				t.settingsColumn(), k.Plural(), rotateBatch)
			found, err := tx.QueryContext(ctx, q, last)
			if err != nil {
				return err
			}
			n := 0
			var list []row
			err = each(ctx, found, func() error {
				var body, settings []byte
				if err := found.Scan(&last, &body, &settings); err != nil {
					return err
				}
				n++
				kept, changed, err := s.anew(k, body, settings, nil)
				if changed {
					list = append(list, row{last, kept})
				}
				return err
			})
			more = n == rotateBatch
			if err != nil {
				return err
			}
			for _, r := range list {
				q, args := "UPDATE "+k.Plural()+" SET body = $2 WHERE id = $1", []any{r.id, r.kept.Body}
				if t.settings {
					q, args = "UPDATE "+k.Plural()+" SET body = $2, settings = $3 WHERE id = $1", append(args, orNull(r.kept.Settings))
				}
				if _, err := tx.ExecContext(ctx, q, args...); err != nil {
					return err
				}
			}
			rows += len(list)
			return nil
		})
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// rotateChanges seals the history anew.
func (s *Store) rotateChanges(ctx context.Context) (rows int, err error) {
	var revision, seq int64
	type row struct {
		revision, seq                 int64
		before, after                 []byte
		beforeSettings, afterSettings []byte
	}
	for more := true; more; {
		err := s.writing(ctx, "encrypt the history", func(ctx context.Context, tx *dbsql.Tx) error {
			if _, _, err := readHead(ctx, tx, s.dialect.lockHead()); err != nil {
				return err
			}
			if err := s.beforeSealing(ctx, tx); err != nil {
				return err
			}
			found, err := tx.QueryContext(ctx, "SELECT revision, seq, kind, before, before_settings, before_hash, "+
				"after, after_settings, after_hash FROM revision_changes WHERE revision > $1 OR revision = $1 AND seq > $2 "+
				"ORDER BY revision, seq LIMIT $3", revision, seq, rotateBatch)
			if err != nil {
				return err
			}
			n := 0
			var list []row
			err = each(ctx, found, func() error {
				var kind string
				var r row
				var beforeHash, afterHash []byte
				if err := found.Scan(&r.revision, &r.seq, &kind, &r.before, &r.beforeSettings, &beforeHash,
					&r.after, &r.afterSettings, &afterHash); err != nil {
					return err
				}
				n++
				revision, seq = r.revision, r.seq
				k, err := config.ParseKind(kind)
				if err != nil {
					return err
				}
				before, one, err := s.anew(k, r.before, r.beforeSettings, beforeHash)
				if err != nil {
					return err
				}
				after, other, err := s.anew(k, r.after, r.afterSettings, afterHash)
				if err != nil {
					return err
				}
				if one {
					r.before, r.beforeSettings = before.Body, before.Settings
				}
				if other {
					r.after, r.afterSettings = after.Body, after.Settings
				}
				if one || other {
					list = append(list, r)
				}
				return nil
			})
			more = n == rotateBatch
			if err != nil {
				return fmt.Errorf("revision %d: %w", revision, err)
			}
			for _, r := range list {
				if _, err := tx.ExecContext(ctx, "UPDATE revision_changes SET before = $3, before_settings = $4, after = $5, "+
					"after_settings = $6 WHERE revision = $1 AND seq = $2", r.revision, r.seq, orNull(r.before),
					orNull(r.beforeSettings), orNull(r.after), orNull(r.afterSettings)); err != nil {
					return err
				}
			}
			rows += len(list)
			return nil
		})
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// rotateSecrets seals the control plane's own secrets anew.
func (s *Store) rotateSecrets(ctx context.Context) (rows int, err error) {
	err = s.writing(ctx, "encrypt secrets", func(ctx context.Context, tx *dbsql.Tx) error {
		found, err := tx.QueryContext(ctx, "SELECT name, value FROM secrets ORDER BY name")
		if err != nil {
			return err
		}
		values := map[string][]byte{}
		err = each(ctx, found, func() error {
			var name string
			var value []byte
			if err := found.Scan(&name, &value); err != nil {
				return err
			}
			if seal.SealedBy(value) == s.seal.Newest() {
				return nil
			}
			plain, err := s.seal.Open(value, secretPlace+" "+name)
			values[name] = s.seal.Seal(plain, secretPlace+" "+name)
			return err
		})
		if err != nil {
			return err
		}
		for name, value := range values {
			if _, err := tx.ExecContext(ctx, "UPDATE secrets SET value = $2 WHERE name = $1", name, value); err != nil {
				return err
			}
		}
		rows = len(values)
		return nil
	})
	return rows, err
}
