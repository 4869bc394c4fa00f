package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"time"
)

// Acquire implements store.Store. The engine's clock decides, so that clocks of control planes may differ.
func (s *Store) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error) {
	err = s.writing(ctx, "acquire the lease "+name, func(ctx context.Context, tx *dbsql.Tx) error {
		now := s.dialect.now()
		done, err := tx.ExecContext(ctx, "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, "+now+" + $3) "+
			"ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at "+
			"WHERE leases.holder = excluded.holder OR leases.expires_at <= "+now, name, holder, ttl.Microseconds())
		if err != nil {
			return err
		}
		n, err := done.RowsAffected()
		held = n == 1
		return err
	})
	return held && err == nil, err
}

// Release implements store.Store.
func (s *Store) Release(ctx context.Context, name, holder string) error {
	return s.writing(ctx, "release the lease "+name, func(ctx context.Context, tx *dbsql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM leases WHERE name = $1 AND holder = $2", name, holder)
		return err
	})
}

// Secret implements store.Store.
func (s *Store) Secret(ctx context.Context, name string, fresh func() ([]byte, error)) (value []byte, err error) {
	err = s.reading(ctx, "read a secret", s.limits.read, func(ctx context.Context, tx *dbsql.Tx) error {
		return selectSecret(ctx, tx, name, &value)
	})
	if err == nil || !errors.Is(err, dbsql.ErrNoRows) {
		return s.openSecret(ctx, name, value, err)
	}
	made, err := fresh()
	if err != nil {
		return nil, err
	}
	err = s.writing(ctx, "keep a secret", func(ctx context.Context, tx *dbsql.Tx) error {
		if err := s.beforeSealing(ctx, tx); err != nil {
			return err
		}
		q := "INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING"
		if _, err := tx.ExecContext(ctx, q, name, s.seal.Seal(made, secretPlace+" "+name)); err != nil {
			return err
		}
		return selectSecret(ctx, tx, name, &value) // of whoever was first
	})
	return s.openSecret(ctx, name, value, err)
}

func (s *Store) openSecret(ctx context.Context, name string, value []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	plain, err := s.seal.Open(value, secretPlace+" "+name)
	if s.learned(ctx, err) {
		plain, err = s.seal.Open(value, secretPlace+" "+name)
	}
	if err != nil {
		return nil, fmt.Errorf("read the secret %s: %w", name, err)
	}
	return plain, nil
}

func selectSecret(ctx context.Context, tx *dbsql.Tx, name string, value *[]byte) error {
	return tx.QueryRowContext(ctx, "SELECT value FROM secrets WHERE name = $1", name).Scan(value)
}

// writing runs write in a transaction of its own, which is committed when write succeeds.
func (s *Store) writing(ctx context.Context, doing string, write func(context.Context, *dbsql.Tx) error) error {
	ctx, cancel, err := s.within(ctx, s.limits.read)
	if err != nil {
		return s.fault(ctx, doing, err)
	}
	defer cancel()
	if err := s.ready(ctx); err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.fault(ctx, doing, err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	if err := write(ctx, tx); err != nil {
		return s.fault(ctx, doing, err)
	}
	return s.fault(ctx, doing, tx.Commit())
}
