package sql

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/controlplane/internal/store"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// discoveredRow is what is kept for one service.
type discoveredRow struct {
	serviceID, question string
	endpoints           []byte // a streamv1.ServiceEndpoints without its id
	changedAt           int64  // microseconds since 1970
}

// insertDiscovered, the rows and upsertDiscovered are one statement. It leaves rows alone that say the same: all
// control planes find the same, and one has to write it.
const (
	insertDiscovered = "INSERT INTO discovered (service_id, question, endpoints, changed_at) "
	upsertDiscovered = " ON CONFLICT (service_id) DO UPDATE " +
		"SET question = excluded.question, endpoints = excluded.endpoints, changed_at = excluded.changed_at " +
		"WHERE discovered.question <> excluded.question OR discovered.endpoints <> excluded.endpoints"
	selectDiscovered = "SELECT service_id, question, endpoints, changed_at FROM discovered ORDER BY service_id"
)

// Discovered implements store.Store.
func (s *Store) Discovered(ctx context.Context) ([]store.Discovered, error) {
	var list []store.Discovered
	err := s.reading(ctx, "read what was discovered", s.limits.work, func(ctx context.Context, tx *dbsql.Tx) error {
		rows, err := tx.QueryContext(ctx, selectDiscovered)
		if err != nil {
			return err
		}
		return each(ctx, rows, func() error {
			var d store.Discovered
			var endpoints dbsql.RawBytes
			var micros int64
			if err := rows.Scan(&d.ServiceID, &d.Question, &endpoints, &micros); err != nil {
				return err
			}
			var set streamv1.ServiceEndpoints
			if err := proto.Unmarshal(endpoints, &set); err != nil {
				s.log.Error("what was discovered for a service can't be read, and is left out", "service_id", d.ServiceID,
					"error", err.Error())
				return nil
			}
			d.Endpoints, d.ChangedAt = set.GetEndpoints(), time.UnixMicro(micros).UTC()
			list = append(list, d)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// KeepDiscovered implements store.Store.
func (s *Store) KeepDiscovered(ctx context.Context, found []store.Discovered, gone []string) error {
	rows := make([]discoveredRow, len(found))
	for i, d := range found {
		endpoints, err := proto.MarshalOptions{Deterministic: true}.Marshal(&streamv1.ServiceEndpoints{Endpoints: d.Endpoints})
		if err != nil {
			return fmt.Errorf("keep what was discovered for service %s: %w", d.ServiceID, err)
		}
		if endpoints == nil {
			endpoints = []byte{} // none, which is no NULL
		}
		rows[i] = discoveredRow{d.ServiceID, withoutNUL(d.Question), endpoints, d.ChangedAt.UnixMicro()}
	}
	return s.writing(ctx, "keep what was discovered", func(ctx context.Context, tx *dbsql.Tx) error {
		if err := s.dialect.lockDiscovered(ctx, tx); err != nil {
			return err
		}
		if len(gone) > 0 {
			if err := s.dialect.forgetDiscovered(ctx, tx, gone); err != nil {
				return err
			}
		}
		if len(rows) == 0 {
			return nil
		}
		return s.dialect.keepDiscovered(ctx, tx, rows)
	})
}

// discoveredLock is the key of the lock that keeps control planes from writing to discovered at the same time.
const discoveredLock = 0x67617465776179

// lockDiscovered takes a lock of its own: rows that two transactions delete and insert in any order would have them
// wait for each other in a circle, and a lock of the table would have vacuum give way.
func (*postgresql) lockDiscovered(ctx context.Context, tx *dbsql.Tx) error {
	_, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(discoveredLock))
	return err
}

// lockDiscovered needs no lock of its own: every transaction that may write begins with the write lock.
func (*embedded) lockDiscovered(context.Context, *dbsql.Tx) error { return nil }

func (*postgresql) keepDiscovered(ctx context.Context, tx *dbsql.Tx, rows []discoveredRow) error {
	var ids, questions []string
	var endpoints [][]byte
	var times []int64
	for _, r := range rows {
		ids, questions = append(ids, r.serviceID), append(questions, r.question)
		endpoints, times = append(endpoints, r.endpoints), append(times, r.changedAt)
	}
	const q = insertDiscovered + "SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[])" + upsertDiscovered
	_, err := tx.ExecContext(ctx, q, ids, questions, endpoints, times)
	return err
}

func (*postgresql) forgetDiscovered(ctx context.Context, tx *dbsql.Tx, serviceIDs []string) error {
	_, err := tx.ExecContext(ctx, "DELETE FROM discovered WHERE service_id = ANY($1)", serviceIDs)
	return err
}

func (*embedded) keepDiscovered(ctx context.Context, tx *dbsql.Tx, rows []discoveredRow) error {
	stmt, err := tx.PrepareContext(ctx, insertDiscovered+"VALUES (?, ?, ?, ?)"+upsertDiscovered)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	for _, r := range rows {
		if _, err := stmt.ExecContext(ctx, r.serviceID, r.question, r.endpoints, r.changedAt); err != nil {
			return err
		}
	}
	return nil
}

func (*embedded) forgetDiscovered(ctx context.Context, tx *dbsql.Tx, serviceIDs []string) error {
	stmt, err := tx.PrepareContext(ctx, "DELETE FROM discovered WHERE service_id = ?")
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	for _, id := range serviceIDs {
		if _, err := stmt.ExecContext(ctx, id); err != nil {
			return err
		}
	}
	return nil
}
