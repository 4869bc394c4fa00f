package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// noRoom: disk_full, and an io_error, which some file systems say instead.
func (*postgresql) noRoom(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "53100" || pg.Code == "58030")
}

// room makes a table of some hundred KiB and takes it back: small writes may find room where a revision does not.
func (*postgresql) room(ctx context.Context, db *dbsql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // nothing is to be kept
	name := "gateway_room_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	_, err = tx.ExecContext(ctx, "CREATE TABLE "+name+" AS SELECT repeat('x', 1000) FROM generate_series(1, 256)")
	return err
}

func (*embedded) noRoom(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_FULL || e.Code()&0xff == sqlite3.SQLITE_IOERR)
}

// room writes a file beside the store's, since nothing is written there before a transaction is committed.
func (e *embedded) room(context.Context, *dbsql.DB) error {
	f, err := os.CreateTemp(filepath.Dir(e.path), ".room-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // an empty file is no harm
	_, err = f.Write(make([]byte, 256<<10))
	return errors.Join(err, f.Close())
}
