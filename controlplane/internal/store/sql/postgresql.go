package sql

import (
	"context"
	dbsql "database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrationFiles embed.FS

type postgresql struct {
	config *pgx.ConnConfig
	log    *slog.Logger
}

func openPostgreSQL(url string, log *slog.Logger) (*dbsql.DB, dialect, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		// The library's error may quote the URL, and with it the password.
		return nil, nil, errors.New("the store's URL is no PostgreSQL URL such as postgres://USER:PASSWORD@HOST:5432/DATABASE")
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(4)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db, &postgresql{config, log}, nil
}

func (*postgresql) migrations() (fs.FS, goose.Dialect, []goose.ProviderOption, error) {
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, "", nil, err
	}
	dir, err := fs.Sub(migrationFiles, "migrations/postgresql")
	return dir, goose.DialectPostgres, []goose.ProviderOption{goose.WithSessionLocker(locker)}, err
}

func (*postgresql) lockHead() string { return "SELECT epoch, head FROM meta WHERE one = 1 FOR UPDATE" }

func (*postgresql) readOnly() *dbsql.TxOptions {
	return &dbsql.TxOptions{Isolation: dbsql.LevelRepeatableRead, ReadOnly: true}
}

func (*postgresql) notify(ctx context.Context, tx *dbsql.Tx, number uint32) error {
	_, err := tx.ExecContext(ctx, "SELECT pg_notify('gateway_revisions', $1)", fmt.Sprint(number))
	return err
}

// permanent: constraint violations, data exceptions and syntax errors.
func (*postgresql) permanent(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "23") || strings.HasPrefix(pg.Code, "42"))
}

// watch listens on a connection of its own. Notifications are lost while it is away, so every new connection begins with a hint.
func (p *postgresql) watch(ctx context.Context, hint func()) {
	wait := 100 * time.Millisecond
	for ctx.Err() == nil {
		if p.listen(ctx, hint) {
			wait = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, 5*time.Second)
	}
}

func (p *postgresql) listen(ctx context.Context, hint func()) (connected bool) {
	conn, err := pgx.ConnectConfig(ctx, p.config.Copy())
	if err != nil {
		return false
	}
	defer func() {
		closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closeCtx)
	}()
	if _, err := conn.Exec(ctx, "LISTEN gateway_revisions"); err != nil {
		return false
	}
	hint()
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return true
		}
		hint()
	}
}

func (*postgresql) close() error { return nil }
