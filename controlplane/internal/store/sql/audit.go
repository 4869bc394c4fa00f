package sql

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"strings"
	"time"

	"gateway.internal/controlplane/internal/store"
)

const auditColumns = "at, actor, method, user_name, token_id, address, request_id, call, outcome, code, reason, " +
	"message, revision, count, change_count, changes"

// KeepAudit implements store.Audit.
func (s *Store) KeepAudit(ctx context.Context, entries ...store.AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	return s.writing(ctx, "keep what is to be audited", func(ctx context.Context, tx *dbsql.Tx) error {
		return s.writeAudits(ctx, tx, entries)
	})
}

// writeAudits adds entries to a transaction, and removes those that are beyond the bounds.
func (s *Store) writeAudits(ctx context.Context, tx *dbsql.Tx, entries []store.AuditEntry) error {
	for _, e := range entries {
		if err := s.writeAudit(ctx, tx, e); err != nil {
			return err
		}
	}
	if len(entries) == 0 {
		return nil
	}
	return s.trimAudit(ctx, tx)
}

// writeAudit adds an entry to a transaction.
func (s *Store) writeAudit(ctx context.Context, tx *dbsql.Tx, e store.AuditEntry) error {
	q := "INSERT INTO audit (" + auditColumns + ") VALUES " +
		"($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) RETURNING id"
	texts := []string{e.Actor, e.Method, e.User, e.TokenID, e.Address, e.RequestID, e.Call, e.Outcome,
		e.Code, e.Reason, e.Message}
	args := []any{e.At.UnixMicro()}
	for _, text := range texts {
		args = append(args, withoutNUL(text))
	}
	args = append(args, int64(e.Revision), int64(max(e.Count, 1)), int64(e.ChangeCount), withoutNUL(e.Changes))
	var id int64
	if err := tx.QueryRowContext(ctx, q, args...).Scan(&id); err != nil {
		return err
	}
	for _, r := range e.Resources[:min(len(e.Resources), store.MaxAuditResources)] {
		q := "INSERT INTO audit_resources (audit_id, kind, name) VALUES ($1, $2, $3)"
		if _, err := tx.ExecContext(ctx, q, id, r.Kind, withoutNUL(r.Name)); err != nil {
			return err
		}
	}
	return nil
}

// trimAudit removes what is beyond the bounds.
func (s *Store) trimAudit(ctx context.Context, tx *dbsql.Tx) error {
	for outcome, keep := range map[string]int{store.AuditDone: s.maxAudit, store.AuditRefused: s.maxAuditRefusals} {
		q := "DELETE FROM audit WHERE outcome = $1 AND id <= " +
			"(SELECT id FROM audit WHERE outcome = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)"
		if _, err := tx.ExecContext(ctx, q, outcome, int64(keep)); err != nil {
			return err
		}
	}
	return nil
}

// Audit implements store.Audit.
func (s *Store) Audit(ctx context.Context, l store.AuditList) ([]store.AuditEntry, int, error) {
	var where []string
	var args []any
	only := func(condition string, value any) {
		args = append(args, value)
		where = append(where, fmt.Sprintf(condition, len(args)))
	}
	for column, value := range map[string]string{"actor": l.Actor, "address": l.Address, "call": l.Call,
		"outcome": l.Outcome} {
		if value != "" {
			only(column+" = $%d", withoutNUL(value))
		}
	}
	for column, value := range map[string]string{"kind": l.Kind, "name": l.Name} {
		if value != "" && (column == "name" || l.Name == "") {
			only("id IN (SELECT audit_id FROM audit_resources WHERE "+column+" = $%d)", withoutNUL(value))
		}
	}
	if l.Kind != "" && l.Name != "" {
		args = append(args, withoutNUL(l.Kind))
		where[len(where)-1] = strings.TrimSuffix(where[len(where)-1], ")") + fmt.Sprintf(" AND kind = $%d)", len(args))
	}
	if l.Revision > 0 {
		only("revision = $%d", int64(l.Revision))
	}
	if !l.Since.IsZero() {
		only("at >= $%d", l.Since.UnixMicro())
	}
	if !l.Before.IsZero() {
		only("at < $%d", l.Before.UnixMicro())
	}
	if l.Through > 0 {
		only("id <= $%d", int64(l.Through))
	}
	from := " FROM audit"
	if len(where) > 0 {
		from += " WHERE " + strings.Join(where, " AND ")
	}
	var list []store.AuditEntry
	total := 0
	err := s.reading(ctx, "read the audit trail", s.limits.read, func(ctx context.Context, tx *dbsql.Tx) error {
		list = nil
		if err := tx.QueryRowContext(ctx, "SELECT count(*)"+from, args...).Scan(&total); err != nil {
			return err
		}
		q := fmt.Sprintf("SELECT id, %s%s ORDER BY id DESC LIMIT %d OFFSET %d", auditColumns, from, l.Limit, l.Offset)
		rows, err := tx.QueryContext(ctx, q, args...)
		if err != nil {
			return err
		}
		return each(ctx, rows, func() error {
			var e store.AuditEntry
			var at int64
			err := rows.Scan(&e.ID, &at, &e.Actor, &e.Method, &e.User, &e.TokenID, &e.Address, &e.RequestID, &e.Call,
				&e.Outcome, &e.Code, &e.Reason, &e.Message, &e.Revision, &e.Count, &e.ChangeCount, &e.Changes)
			e.At = time.UnixMicro(at).UTC()
			list = append(list, e)
			return err
		})
	})
	if err != nil {
		return nil, 0, err
	}
	return list, total, nil
}
