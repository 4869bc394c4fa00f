package sql

import (
	"context"
	"crypto/tls"
	dbsql "database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"gateway.internal/shared/backoff"
)

//go:embed migrations
var migrationFiles embed.FS

type postgresql struct {
	config *pgx.ConnConfig
	log    *slog.Logger
	// looking is the session that only look uses.
	looking *pgx.Conn
}

func openPostgreSQL(url string, log *slog.Logger) (*dbsql.DB, dialect, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		// The library's error, and what it wraps, may quote the URL, and with it the password.
		return nil, nil, errors.New("the store's URL can't be read: it has to be like postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full, " +
			"with special characters in USER and PASSWORD percent-encoded (@ is %40, / is %2F, : is %3A), and the files that it names have to exist")
	}
	if !verified(config) {
		log.Warn("the connection to PostgreSQL is not verified: who is between could take the store's place; add " +
			"sslmode=verify-full to the store's URL, and sslrootcert=FILE where its authority is not one of the system's")
	}
	later := configure(config)
	return openSessions(config, later), &postgresql{config: config, log: log}, nil
}

// verified reports whether every connection that a URL allows is to this machine, or to a server whose certificate is
// verified for its host.
func verified(config *pgx.ConnConfig) bool {
	safe := func(host string, by *tls.Config) bool {
		ip := net.ParseIP(host)
		return strings.HasPrefix(host, "/") || host == "localhost" || ip != nil && ip.IsLoopback() ||
			by != nil && !by.InsecureSkipVerify
	}
	for _, f := range config.Fallbacks {
		if !safe(f.Host, f.TLSConfig) {
			return false
		}
	}
	return safe(config.Host, config.TLSConfig)
}

func (*postgresql) migrations() (fs.FS, goose.Dialect, []goose.ProviderOption, error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60)) // tries each second
	if err != nil {
		return nil, "", nil, err
	}
	dir, err := fs.Sub(migrationFiles, "migrations/postgresql")
	return dir, goose.DialectPostgres, []goose.ProviderOption{goose.WithSessionLocker(locker)}, err
}

func (*postgresql) lockHead() string { return selectHead + " FOR UPDATE" }

func (*postgresql) now() string { return "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint" }

func (*postgresql) readOnly() *dbsql.TxOptions {
	return &dbsql.TxOptions{Isolation: dbsql.LevelRepeatableRead, ReadOnly: true}
}

func (*postgresql) remove(ctx context.Context, w *writing, table string, ids []string) error {
	_, err := w.tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE id = ANY($1)", ids)
	return err
}

// copyRows is the number of rows from which on COPY is used: below it, describing the columns costs more than it saves.
const copyRows = 32

func (*postgresql) insert(ctx context.Context, w *writing, table string, columns []string, rows [][]any) error {
	if len(rows) >= copyRows {
		return w.conn.Raw(func(driver any) error {
			source := pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
				answered(ctx) // it takes what it is sent
				return rows[i], nil
			})
			_, err := driver.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{table}, columns, source)
			return err
		})
	}
	var q strings.Builder
	q.WriteString("INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES ")
	var args []any
	for i, row := range rows {
		for j := range row {
			switch {
			case j > 0:
				q.WriteString(", ")
			case i > 0:
				q.WriteString("), (")
			default:
				q.WriteByte('(')
			}
			fmt.Fprintf(&q, "$%d", len(args)+j+1)
		}
		args = append(args, row...)
	}
	q.WriteByte(')')
	_, err := w.tx.ExecContext(ctx, q.String(), args...)
	return err
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

// watch listens on a connection of its own. Notifications are lost while it is away, so every new connection begins
// with a hint.
func (p *postgresql) watch(ctx context.Context, hint func()) {
	retry, away := backoff.Exponential{Least: 100 * time.Millisecond, Most: 5 * time.Second}, false
	for {
		err := p.listen(ctx, func() {
			if away {
				p.log.InfoContext(ctx, "PostgreSQL notifies of revisions again")
			}
			away = false
			retry.Reset()
			hint()
		})
		if ctx.Err() != nil {
			return
		}
		if !away {
			p.log.WarnContext(ctx, "PostgreSQL does not notify of revisions; they are polled for", "error", err.Error(), "interval", pollInterval)
		}
		away = true
		if !retry.Wait(ctx, nil) {
			return
		}
	}
}

// listen hints, once the connection listens and at every notification, until the connection ends.
func (p *postgresql) listen(ctx context.Context, hint func()) error {
	conn, err := pgx.ConnectConfig(ctx, p.config.Copy())
	if err != nil {
		return err
	}
	defer func() {
		closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closeCtx)
	}()
	if _, err := conn.Exec(ctx, "LISTEN gateway_revisions"); err != nil {
		return err
	}
	for {
		hint()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}

// scrub does nothing: what VACUUM FULL would give back is in the write-ahead log and in backups all the same.
func (*postgresql) scrub(context.Context, *dbsql.DB) error { return nil }

func (p *postgresql) close() error {
	p.forget()
	return nil
}
