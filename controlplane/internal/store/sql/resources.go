package sql

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"slices"

	"gateway.internal/shared/config"
)

// writeResources brings the tables to what the changes lead to. Changed rows are removed and written anew: foreign keys
// are checked at the commit, and names may change places.
func (s *Store) writeResources(ctx context.Context, w *writing, changes []config.Change) error {
	all := tables()
	for _, k := range config.Kinds() {
		var gone []string
		for _, ch := range changes {
			if ch.Kind == k && ch.Before != nil {
				gone = append(gone, ch.ID())
			}
		}
		if len(gone) == 0 {
			continue
		}
		if err := s.dialect.remove(ctx, w, k.Plural(), gone); err != nil {
			return fmt.Errorf("remove %s: %w", k.Plural(), err)
		}
	}
	for _, k := range config.Kinds() {
		if err := s.insertKind(ctx, w, all[k], k, changes); err != nil {
			return fmt.Errorf("write %s: %w", k.Plural(), err)
		}
	}
	return nil
}

func (s *Store) insertKind(ctx context.Context, w *writing, t table, k config.Kind, changes []config.Change) error {
	var rows [][]any
	below := make([][][]any, len(t.children))
	idle := w.keepAlive(ctx, s.limits.keepAlive) // to put all of a large commit into words takes a busy machine seconds
	defer idle()
	for _, ch := range changes {
		if ch.Kind != k || ch.After == nil {
			continue
		}
		m, kept := ch.After.Message, s.sealed(ch.After)
		shown, _ := config.WithoutSecrets(m, nil)
		row := []any{
			m.GetId(), m.GetName(), timeOf(m.GetCreatedAt()), timeOf(m.GetUpdatedAt()), int64(m.GetVersion()),
			labelsJSON(shown.GetLabels()),
		}
		row = append(append(row, t.row(m, shown)...), kept.Body, resourceJSON(shown))
		if t.settings {
			row = append(row, orNull(kept.Settings))
		}
		rows = append(rows, row)
		for i, c := range t.children {
			below[i] = append(below[i], c.rows(m, shown)...)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	columns := slices.Concat(common, t.columns, []string{"body", "resource"})
	if t.settings {
		columns = append(columns, "settings")
	}
	idle()
	if err := s.dialect.insert(ctx, w, k.Plural(), columns, rows); err != nil {
		return err
	}
	for i, c := range t.children {
		if len(below[i]) == 0 {
			continue
		}
		if err := s.dialect.insert(ctx, w, c.name, c.columns, below[i]); err != nil {
			return err
		}
	}
	return nil
}

// readAll returns every resource as a creation, each kind after those that it refers to.
func (s *Store) readAll(ctx context.Context, tx *dbsql.Tx) ([]config.Change, error) {
	var changes []config.Change
	all := tables()
	for _, k := range config.Kinds() {
		rows, err := tx.QueryContext(ctx, "SELECT body, "+all[k].settingsColumn()+" FROM "+k.Plural())
		if err != nil {
			return nil, err
		}
		err = s.eachEntry(ctx, rows, k, func(e *config.Entry) { changes = append(changes, config.Change{Kind: k, After: e}) })
		if err != nil {
			return nil, err
		}
	}
	return changes, nil
}

// settingsColumn is what to select for a resource's settings.
func (t table) settingsColumn() string {
	if t.settings {
		return "settings"
	}
	return "NULL"
}

// eachEntry calls take for every row of a kind's body and settings, and closes rows.
func (s *Store) eachEntry(ctx context.Context, rows *dbsql.Rows, k config.Kind, take func(*config.Entry)) error {
	return each(ctx, rows, func() error {
		var body, settings dbsql.RawBytes
		if err := rows.Scan(&body, &settings); err != nil {
			return err
		}
		e, err := s.entry(k, body, settings, nil)
		if err == nil {
			take(e)
		}
		return err
	})
}

// each calls f for every row and closes rows. Each row is an answer of the engine's.
func each(ctx context.Context, rows *dbsql.Rows, f func() error) error {
	defer rows.Close()
	for rows.Next() {
		answered(ctx)
		if err := f(); err != nil {
			return err
		}
	}
	return rows.Err()
}
