package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

type embedded struct {
	path string
	lock *os.File
	// file is what was opened.
	file os.FileInfo
}

// openSQLite opens a file, which one process may have open at a time.
func openSQLite(path string) (*dbsql.DB, dialect, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, fmt.Errorf("embedded store: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("embedded store: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, nil, fmt.Errorf("embedded store %s: another process has it open; several control planes need PostgreSQL (--store postgres://...)", path)
	}
	// Made here so that nobody else can read it, whatever the umask.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		_ = lock.Close()
		return nil, nil, fmt.Errorf("embedded store: %w", err)
	}
	info, err := f.Stat()
	_ = f.Close()
	if err != nil {
		_ = lock.Close()
		return nil, nil, fmt.Errorf("embedded store: %w", err)
	}
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() +
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(ON)&_pragma=cache_size(-65536)"
	db, err := dbsql.Open("sqlite", dsn)
	if err != nil {
		_ = lock.Close()
		return nil, nil, fmt.Errorf("embedded store: %w", err)
	}
	db.SetMaxOpenConns(4)
	return db, &embedded{path, lock, info}, nil
}

func (*embedded) migrations() (fs.FS, goose.Dialect, []goose.ProviderOption, error) {
	dir, err := fs.Sub(migrationFiles, "migrations/sqlite")
	return dir, goose.DialectSQLite3, nil, err
}

// lockHead needs no lock of its own: every transaction that may write begins with the write lock.
func (*embedded) lockHead() string { return selectHead }

func (*embedded) now() string { return "CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)" }

func (*embedded) readOnly() *dbsql.TxOptions { return &dbsql.TxOptions{ReadOnly: true} }

// remove and insert run one prepared statement for each row: that beats statements of many rows here, whose numbered
// parameters are looked up by name, one after the other.
func (*embedded) remove(ctx context.Context, w *writing, table string, ids []string) error {
	stmt, err := w.tx.PrepareContext(ctx, "DELETE FROM "+table+" WHERE id = ?")
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	for _, id := range ids {
		if _, err := stmt.ExecContext(ctx, id); err != nil {
			return err
		}
		answered(ctx)
	}
	return nil
}

func (*embedded) insert(ctx context.Context, w *writing, table string, columns []string, rows [][]any) error {
	marks := strings.Repeat("?, ", len(columns)-1) + "?"
	stmt, err := w.tx.PrepareContext(ctx, "INSERT INTO "+table+" ("+strings.Join(columns, ", ")+") VALUES ("+marks+")")
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	for _, row := range rows {
		for i, v := range row {
			if t, ok := v.(time.Time); ok {
				row[i] = t.UTC().Format(time.RFC3339Nano)
			}
		}
		if _, err := stmt.ExecContext(ctx, row...); err != nil {
			return err
		}
		answered(ctx)
	}
	return nil
}

func (*embedded) notify(context.Context, *dbsql.Tx, uint32) error { return nil }

func (*embedded) permanent(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff
	return code == sqlite3.SQLITE_CONSTRAINT || code == sqlite3.SQLITE_ERROR || code == sqlite3.SQLITE_MISMATCH
}

// watch has nothing to do: there is no other process.
func (*embedded) watch(ctx context.Context, _ func()) { <-ctx.Done() }

func (e *embedded) look(context.Context, *dbsql.DB) error { return e.intact() }

// intact notices a file that was deleted or replaced: what is written to it then is lost when the process ends.
func (e *embedded) intact() error {
	info, err := os.Stat(e.path)
	switch {
	case err != nil:
		return fmt.Errorf("the embedded store's file is gone: %w", err)
	case !os.SameFile(info, e.file):
		return fmt.Errorf("the embedded store's file %s was replaced while it was open: restart the control plane", e.path)
	}
	return nil
}

// scrub writes the file anew, without what was deleted in it, and empties its log.
func (*embedded) scrub(ctx context.Context, db *dbsql.DB) error {
	if _, err := db.ExecContext(ctx, "VACUUM"); err != nil {
		return err
	}
	var busy, pages, moved int64
	if err := db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved); err != nil {
		return err
	}
	if busy != 0 {
		return errors.New("the log is in use")
	}
	return nil
}

func (e *embedded) close() error { return e.lock.Close() }
