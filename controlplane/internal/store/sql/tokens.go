package sql

import (
	"context"
	dbsql "database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"gateway.internal/controlplane/internal/store"
)

const tokenColumns = "id, name, hash, role, kinds, labels, user_name, created_by, created_at, expires_at, " +
	"session_of, last_used_at, revoked_at"

// Tokens implements store.Access.
func (s *Store) Tokens(ctx context.Context, known int64) (list []store.Token, changes int64, err error) {
	err = s.reading(ctx, "read the tokens", s.limits.read, func(ctx context.Context, tx *dbsql.Tx) error {
		list = nil
		row := tx.QueryRowContext(ctx, "SELECT changes FROM access WHERE one = 1")
		if err := row.Scan(&changes); err != nil || changes == known {
			return err
		}
		rows, err := tx.QueryContext(ctx, "SELECT "+tokenColumns+" FROM tokens ORDER BY name, created_at, id")
		if err != nil {
			return err
		}
		return each(ctx, rows, func() error {
			t, err := scanToken(rows)
			list = append(list, t)
			return err
		})
	})
	if err != nil {
		return nil, 0, err
	}
	return list, changes, nil
}

func scanToken(rows *dbsql.Rows) (store.Token, error) {
	var t store.Token
	var hash, kinds, labels dbsql.RawBytes
	var created, expires, used, revoked int64
	err := rows.Scan(&t.ID, &t.Name, &hash, &t.Role, &kinds, &labels, &t.User, &t.CreatedBy, &created, &expires,
		&t.SessionOf, &used, &revoked)
	if err != nil {
		return t, err
	}
	copy(t.Hash[:], hash)
	if err := errors.Join(json.Unmarshal(kinds, &t.Kinds), json.Unmarshal(labels, &t.Labels)); err != nil {
		return t, fmt.Errorf("token %s: %w", t.ID, err)
	}
	t.CreatedAt, t.ExpiresAt, t.LastUsedAt, t.RevokedAt = fromMicros(created), fromMicros(expires), fromMicros(used),
		fromMicros(revoked)
	return t, nil
}

// fromMicros is the zero time for 0.
func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// changedAccess counts a change, which also lets one writer in at a time, and tells other processes. The count goes by
// the engine's clock, so that after a backup was restored it does not come to a number again that somebody knows.
func (s *Store) changedAccess(ctx context.Context, tx *dbsql.Tx) error {
	now := s.dialect.now()
	if _, err := tx.ExecContext(ctx, "UPDATE access SET changes = CASE WHEN changes < "+now+" THEN "+now+
		" ELSE changes + 1 END WHERE one = 1"); err != nil {
		return err
	}
	return s.dialect.notify(ctx, tx, 0)
}

// answering runs writing and tells what the store has to say from errors of the engine.
func (s *Store) answering(ctx context.Context, doing string, write func(context.Context, *dbsql.Tx) error) error {
	var answer error
	err := s.writing(ctx, doing, func(ctx context.Context, tx *dbsql.Tx) error {
		answer = write(ctx, tx)
		return answer
	})
	for _, known := range []error{store.ErrTokenExists, store.ErrNoToken, store.ErrTooManyTokens} {
		if errors.Is(answer, known) {
			return known
		}
	}
	if err == nil {
		s.hint()
	}
	return err
}

// CreateToken implements store.Access.
func (s *Store) CreateToken(ctx context.Context, t store.Token, audit ...store.AuditEntry) error {
	kinds, err := json.Marshal(t.Kinds)
	if err != nil {
		return fmt.Errorf("create a token: %w", err)
	}
	labels, err := json.Marshal(t.Labels)
	if err != nil {
		return fmt.Errorf("create a token: %w", err)
	}
	return s.answering(ctx, "create a token", func(ctx context.Context, tx *dbsql.Tx) error {
		if err := s.changedAccess(ctx, tx); err != nil {
			return err
		}
		const valid = "revoked_at = 0 AND expires_at > $1"
		var same, all, there int
		q := "SELECT count(CASE WHEN name = $2 AND session_of = '' THEN 1 END), count(*) FROM tokens WHERE " + valid
		now := t.CreatedAt.UnixMicro()
		if err := tx.QueryRowContext(ctx, q, now, t.Name).Scan(&same, &all); err != nil {
			return err
		}
		switch {
		case same > 0 && t.SessionOf == "":
			return store.ErrTokenExists
		case all >= s.maxTokens:
			return store.ErrTooManyTokens
		}
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM tokens").Scan(&there); err != nil {
			return err
		}
		if there >= s.maxTokens { // the oldest that let nobody in make room
			q = "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE NOT (" + valid + ") ORDER BY created_at LIMIT $2)"
			if _, err := tx.ExecContext(ctx, q, now, there-s.maxTokens+1); err != nil {
				return err
			}
		}
		if t.SessionOf != "" { // of many sessions of one the oldest end
			q = "DELETE FROM tokens WHERE session_of <> '' AND name = $1 AND id NOT IN (SELECT id FROM tokens " +
				"WHERE session_of <> '' AND name = $1 AND " + strings.Replace(valid, "$1", "$2",
				1) + " ORDER BY created_at DESC LIMIT $3)"
			if _, err := tx.ExecContext(ctx, q, t.Name, now, store.MaxSessions-1); err != nil {
				return err
			}
		}
		q = "INSERT INTO tokens (" + tokenColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, 0)"
		_, err := tx.ExecContext(ctx, q, t.ID, t.Name, t.Hash[:], t.Role, string(kinds), string(labels), t.User,
			t.CreatedBy, now, t.ExpiresAt.UnixMicro(), t.SessionOf)
		if err != nil {
			return err
		}
		return s.writeAudits(ctx, tx, audit)
	})
}

// RevokeToken implements store.Access.
func (s *Store) RevokeToken(ctx context.Context, id string, at time.Time, audit ...store.AuditEntry) error {
	return s.answering(ctx, "revoke a token", func(ctx context.Context, tx *dbsql.Tx) error {
		q := "UPDATE tokens SET revoked_at = $1 WHERE (id = $2 OR session_of = $2) AND revoked_at = 0"
		done, err := tx.ExecContext(ctx, q, at.UnixMicro(), id)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, store.ErrNoToken)
		}
		if err := s.changedAccess(ctx, tx); err != nil {
			return err
		}
		return s.writeAudits(ctx, tx, audit)
	})
}

// UseTokens implements store.Access.
func (s *Store) UseTokens(ctx context.Context, used map[string]time.Time) error {
	return s.writing(ctx, "say when tokens were used", func(ctx context.Context, tx *dbsql.Tx) error {
		for id, at := range used {
			q := "UPDATE tokens SET last_used_at = $1 WHERE id = $2 AND last_used_at < $1"
			if _, err := tx.ExecContext(ctx, q, at.UnixMicro(), id); err != nil {
				return err
			}
		}
		return nil
	})
}
