package sql

import (
	"context"
	dbsql "database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	maxConns     = 8
	maxIdleConns = 4
	// checkLimit is how long a pooled session may take to answer before it is used.
	checkLimit = 2 * time.Second
	// unacknowledged is how long sent bytes may stay unacknowledged before a connection is given up (TCP_USER_TIMEOUT).
	unacknowledged = 10 * time.Second
)

// sessionSettings are set once a session begins, not as parameters of its start: PgBouncer refuses those that it does
// not know. A control plane that stops for good while it holds the head's lock must not keep the others out, so the
// server ends such a session.
const sessionSettings = `SELECT set_config('idle_in_transaction_session_timeout', '5s', false),
	set_config('tcp_keepalives_idle', '15', false), set_config('tcp_keepalives_interval', '5', false),
	set_config('tcp_keepalives_count', '3', false)`

// atStart are the parameters that every pooler takes at the start of a session; PgBouncer refuses sessions with others.
var atStart = []string{
	"application_name", "client_encoding", "DateStyle", "datestyle", "TimeZone", "timezone",
	"standard_conforming_strings", "options",
}

// configure completes what a URL says of sessions. It returns the parameters of the URL that are to be set once a
// session has begun, which it takes out of the config.
func configure(config *pgx.ConnConfig) (later map[string]string) {
	later = map[string]string{}
	for name, value := range config.RuntimeParams {
		if !slices.Contains(atStart, name) {
			later[name] = value
			delete(config.RuntimeParams, name)
		}
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	// Of several hosts the one that takes writes is meant, and after a failover that is another one.
	if len(config.Fallbacks) > 0 && config.ValidateConnect == nil {
		config.ValidateConnect = takesWrites
	}
	dialer := &net.Dialer{
		Control:         limitUnacknowledged,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	config.DialFunc = dialer.DialContext
	return later
}

// openSessions opens a pool of sessions. Each is asked before it is used whether its server takes writes: those that a
// restart or a failover of the server has made useless are replaced without an error.
func openSessions(config *pgx.ConnConfig, later map[string]string) *dbsql.DB {
	db := stdlib.OpenDB(*config,
		stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false }),
		stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
			if _, err := conn.Exec(ctx, sessionSettings, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
			for name, value := range later { // what the URL says goes before that
				if _, err := conn.Exec(ctx, "SELECT set_config($1, $2, false)", name, value); err != nil {
					return err
				}
			}
			return nil
		}),
		stdlib.OptionResetSession(func(ctx context.Context, conn *pgx.Conn) error {
			ctx, cancel := context.WithTimeout(ctx, checkLimit)
			defer cancel()
			if takesWrites(ctx, conn.PgConn()) != nil {
				return driver.ErrBadConn
			}
			return nil
		}))
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxIdleConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db
}

// takesWrites returns why a server takes no writes, or nil. The driver has the same as
// pgconn.ValidateConnectTargetSessionAttrsReadWrite, which panics where the answer is one of another question.
func takesWrites(ctx context.Context, conn *pgconn.PgConn) error {
	result, err := conn.Exec(ctx, "show transaction_read_only").ReadAll()
	switch {
	case err != nil:
		return err
	case len(result) != 1 || len(result[0].Rows) != 1 || len(result[0].Rows[0]) != 1:
		return errOutOfStep
	case string(result[0].Rows[0][0]) == "on":
		return pgconn.ErrReadOnlyConnection
	}
	return nil
}

var errOutOfStep = errors.New("the answers of a session are not of what was asked")

// look asks the server on a session of its own, which no work can hold up.
func (p *postgresql) look(ctx context.Context, _ *dbsql.DB) error {
	for fresh := p.looking == nil; ; fresh = true {
		if p.looking == nil {
			conn, err := pgx.ConnectConfig(ctx, p.config.Copy())
			if err != nil {
				return readOnly(err)
			}
			p.looking = conn
		}
		err := takesWrites(ctx, p.looking.PgConn())
		if err == nil {
			return nil
		}
		p.forget() // another server may answer next
		if fresh || ctx.Err() != nil {
			return readOnly(err)
		}
	}
}

// intact has nothing to look at: the server keeps what it has confirmed.
func (*postgresql) intact() error { return nil }

// readOnly gives the error of a server that takes no writes its meaning.
func readOnly(err error) error {
	if errors.Is(err, pgconn.ErrReadOnlyConnection) {
		return errReadOnly
	}
	return err
}

// forget closes the session that looks.
func (p *postgresql) forget() {
	if p.looking == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.looking.Close(ctx)
	p.looking = nil
}
