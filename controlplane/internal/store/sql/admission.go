package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"time"

	"gateway.internal/controlplane/internal/store"
)

// CreateJoinToken implements store.Gatekeeper.
func (s *Store) CreateJoinToken(
	ctx context.Context, t store.JoinToken, ttl time.Duration, audit ...store.AuditEntry,
) (store.JoinToken, error) {
	err := s.writing(ctx, "keep a join token", func(ctx context.Context, tx *dbsql.Tx) error {
		now := s.dialect.now()
		if _, err := tx.ExecContext(ctx, "DELETE FROM join_tokens WHERE expires_at <= "+now); err != nil {
			return err
		}
		var created int64
		q := "INSERT INTO join_tokens (id, hash, node_group, node_id, uses, used, created_at, expires_at) " +
			"VALUES ($1, $2, $3, $4, $5, 0, " + now + ", 0) RETURNING created_at"
		err := tx.QueryRowContext(ctx, q, t.ID, t.Hash[:], t.Group, t.NodeID, t.Uses).Scan(&created)
		if err != nil {
			return err
		}
		t.Used, t.CreatedAt = 0, time.UnixMicro(created).UTC()
		t.ExpiresAt = t.CreatedAt.Add(ttl)
		_, err = tx.ExecContext(ctx, "UPDATE join_tokens SET expires_at = $1 WHERE id = $2", t.ExpiresAt.UnixMicro(), t.ID)
		if err != nil {
			return err
		}
		return s.writeAudits(ctx, tx, audit)
	})
	return t, err
}

// JoinTokens implements store.Gatekeeper.
func (s *Store) JoinTokens(ctx context.Context) (list []store.JoinToken, err error) {
	err = s.reading(ctx, "read join tokens", s.limits.read, func(ctx context.Context, tx *dbsql.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT id, node_group, node_id, uses, used, created_at, expires_at "+
			"FROM join_tokens WHERE expires_at > "+s.dialect.now()+" AND (uses = 0 OR used < uses) ORDER BY created_at "+
			"DESC, id")
		if err != nil {
			return err
		}
		return each(ctx, rows, func() error {
			var t store.JoinToken
			var created, expires int64
			if err := rows.Scan(&t.ID, &t.Group, &t.NodeID, &t.Uses, &t.Used, &created, &expires); err != nil {
				return err
			}
			t.CreatedAt, t.ExpiresAt = time.UnixMicro(created).UTC(), time.UnixMicro(expires).UTC()
			list = append(list, t)
			return nil
		})
	})
	return list, err
}

// DeleteJoinToken implements store.Gatekeeper.
func (s *Store) DeleteJoinToken(ctx context.Context, id string, audit ...store.AuditEntry) (found bool, err error) {
	err = s.writing(ctx, "delete a join token", func(ctx context.Context, tx *dbsql.Tx) error {
		found, err = changes(tx.ExecContext(ctx, "DELETE FROM join_tokens WHERE id = $1", id))
		if err != nil || !found {
			return err
		}
		return s.writeAudits(ctx, tx, audit)
	})
	return found && err == nil, err
}

// changes reports whether a statement has changed a row.
func changes(done dbsql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := done.RowsAffected()
	return n > 0, err
}

// Admit implements store.Gatekeeper.
func (s *Store) Admit(
	ctx context.Context, a store.Admission, audit ...store.AuditEntry,
) (store.Admitted, error) {
	to := store.Admitted{Group: a.Group, Generation: 1}
	var refused error
	err := s.writing(ctx, "admit a node", func(ctx context.Context, tx *dbsql.Tx) error {
		var revoked int
		err := tx.QueryRowContext(ctx, "SELECT generation, revoked FROM revoked_nodes WHERE node_id = $1", a.NodeID).
			Scan(&to.Generation, &revoked)
		switch {
		case err != nil && !errors.Is(err, dbsql.ErrNoRows):
			return err
		case err == nil && revoked != 0:
			refused = &store.RevokedError{NodeID: a.NodeID}
		case a.TokenID != "":
			refused, err = s.useToken(ctx, tx, a, &to)
			if err != nil {
				return err
			}
		}
		if refused != nil {
			return errRefused
		}
		return s.writeAudits(ctx, tx, audit)
	})
	if refused != nil {
		return store.Admitted{}, refused
	}
	return to, err
}

// errRefused rolls a transaction back.
var errRefused = errors.New("refused")

// useToken uses a token, or returns why it can't be used.
func (s *Store) useToken(
	ctx context.Context, tx *dbsql.Tx, a store.Admission, to *store.Admitted,
) (refused, err error) {
	now := s.dialect.now()
	// Its row is locked by this, so that what follows is true until the transaction ends.
	found, err := changes(tx.ExecContext(ctx, "UPDATE join_tokens SET used = used WHERE id = $1 AND hash = $2",
		a.TokenID, a.Hash[:]))
	if err != nil || !found {
		return &store.JoinTokenError{Reason: "is not known here, or is wrong: " +
			"it was deleted, or expired long ago, or is of another control plane"}, err
	}
	var t store.JoinToken
	var left int64
	q := "SELECT node_group, node_id, uses, used, expires_at - " + now + " FROM join_tokens WHERE id = $1"
	err = tx.QueryRowContext(ctx, q, a.TokenID).Scan(&t.Group, &t.NodeID, &t.Uses, &t.Used, &left)
	switch {
	case err != nil:
		return nil, err
	case left <= 0:
		return &store.JoinTokenError{Reason: fmt.Sprintf("%s has expired", a.TokenID)}, nil
	case t.NodeID != "" && t.NodeID != a.NodeID:
		return &store.JoinTokenError{Reason: fmt.Sprintf("%s is for node %q, not for %q", a.TokenID, t.NodeID, a.NodeID)}, nil
	case t.Group != "" && a.Group != "" && t.Group != a.Group:
		return &store.JoinTokenError{Reason: fmt.Sprintf("%s is for group %q, not for %q", a.TokenID, t.Group, a.Group)}, nil
	}
	if t.Group != "" {
		to.Group = t.Group
	}
	fresh, err := changes(tx.ExecContext(ctx, "INSERT INTO join_token_uses (token_id, node_id, node_key) "+
		"VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", a.TokenID, a.NodeID, a.Key[:]))
	if err != nil || !fresh {
		return nil, err
	}
	if t.Uses != 0 && t.Used >= t.Uses {
		return &store.JoinTokenError{
			Reason: fmt.Sprintf("%s has been used already, as often as it may be (%d)", a.TokenID, t.Uses),
		}, nil
	}
	_, err = tx.ExecContext(ctx, "UPDATE join_tokens SET used = used + 1 WHERE id = $1", a.TokenID)
	return nil, err
}

// RevokeNode implements store.Gatekeeper.
func (s *Store) RevokeNode(
	ctx context.Context, id, reason string, audit ...store.AuditEntry,
) (r store.Revocation, err error) {
	r = store.Revocation{NodeID: id, Revoked: true, Reason: withoutNUL(reason)}
	err = s.writing(ctx, "revoke a node", func(ctx context.Context, tx *dbsql.Tx) error {
		var at int64
		// One that is revoked already stays so since then.
		err := tx.QueryRowContext(ctx, "INSERT INTO revoked_nodes (node_id, generation, revoked, reason, revoked_at) "+
			"VALUES ($1, 2, 1, $2, "+s.dialect.now()+") ON CONFLICT (node_id) DO UPDATE SET "+
			"generation = revoked_nodes.generation + 1 - revoked_nodes.revoked, revoked = 1, reason = excluded.reason, "+
			"revoked_at = CASE WHEN revoked_nodes.revoked = 1 THEN revoked_nodes.revoked_at ELSE excluded.revoked_at END "+
			"RETURNING generation, revoked_at", id, r.Reason).Scan(&r.Generation, &at)
		if err != nil {
			return err
		}
		r.At = time.UnixMicro(at).UTC()
		// Tokens for its id may be on the machine that it is revoked for: they are not good after it is readmitted either.
		if _, err := tx.ExecContext(ctx, "DELETE FROM join_tokens WHERE node_id = $1", id); err != nil {
			return err
		}
		if err := s.writeAudits(ctx, tx, audit); err != nil {
			return err
		}
		return s.dialect.notify(ctx, tx, 0)
	})
	s.hint()
	return r, err
}

// ReadmitNode implements store.Gatekeeper.
func (s *Store) ReadmitNode(ctx context.Context, id string, audit ...store.AuditEntry) (found bool, err error) {
	err = s.writing(ctx, "readmit a node", func(ctx context.Context, tx *dbsql.Tx) error {
		q := "UPDATE revoked_nodes SET revoked = 0 WHERE node_id = $1 AND revoked = 1"
		found, err = changes(tx.ExecContext(ctx, q, id))
		if err != nil || !found {
			return err
		}
		// Who has the key and the token of the time before gets no answer again: it would have the new generation.
		if _, err := tx.ExecContext(ctx, "DELETE FROM join_token_uses WHERE node_id = $1", id); err != nil {
			return err
		}
		if err := s.writeAudits(ctx, tx, audit); err != nil {
			return err
		}
		return s.dialect.notify(ctx, tx, 0)
	})
	s.hint()
	return found && err == nil, err
}

// Revocations implements store.Gatekeeper.
func (s *Store) Revocations(ctx context.Context) (list []store.Revocation, err error) {
	err = s.reading(ctx, "read which nodes are revoked", s.limits.read, func(ctx context.Context, tx *dbsql.Tx) error {
		list = nil
		rows, err := tx.QueryContext(ctx, "SELECT node_id, generation, revoked, reason, revoked_at FROM revoked_nodes "+
			"ORDER BY node_id")
		if err != nil {
			return err
		}
		return each(ctx, rows, func() error {
			var r store.Revocation
			var revoked int
			var at int64
			if err := rows.Scan(&r.NodeID, &r.Generation, &revoked, &r.Reason, &at); err != nil {
				return err
			}
			r.Revoked, r.At = revoked != 0, time.UnixMicro(at).UTC()
			list = append(list, r)
			return nil
		})
	})
	return list, err
}
