package sql

import (
	"context"
	dbsql "database/sql"
	"io/fs"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
)

// dialect is what differs between engines.
type dialect interface {
	// migrations returns the schema's folder, goose's name of the engine and the lock that keeps replicas apart meanwhile.
	migrations() (fs.FS, goose.Dialect, []goose.ProviderOption, error)
	// lockHead is the query that reads epoch and head and keeps other writers out until the transaction ends.
	lockHead() string
	// now is the engine's clock in a query, in microseconds since 1970.
	now() string
	// readOnly are the options of a transaction that sees one state.
	readOnly() *dbsql.TxOptions
	// remove deletes the rows of a table with these ids, however many.
	remove(ctx context.Context, w *writing, table string, ids []string) error
	// insert writes rows, however many. Times are time.Time.
	insert(ctx context.Context, w *writing, table string, columns []string, rows [][]any) error
	// lockDiscovered keeps other writers out of discovered until the transaction ends.
	lockDiscovered(ctx context.Context, tx *dbsql.Tx) error
	// keepDiscovered writes rows of discovered, each in place of the one that is there where that differs.
	keepDiscovered(ctx context.Context, tx *dbsql.Tx, rows []discoveredRow) error
	// forgetDiscovered deletes the rows of discovered of services.
	forgetDiscovered(ctx context.Context, tx *dbsql.Tx, serviceIDs []string) error
	// notify is run in a transaction that commits a revision.
	notify(ctx context.Context, tx *dbsql.Tx, number uint32) error
	// permanent reports whether an error is of what was asked for, not of the engine's condition. At a COMMIT it is the
	// engine's word that nothing was committed.
	permanent(err error) bool
	// watch hints at commits of other processes until ctx ends; it is called with hint, which does not block.
	watch(ctx context.Context, hint func())
	// look returns why the engine can't be used for reading and writing. It is called by one goroutine only, and never
	// after close.
	look(ctx context.Context, db *dbsql.DB) error
	// noRoom reports whether an error says that there was no room for what was written.
	noRoom(err error) bool
	// room writes a little, which is not kept, and returns why that is not possible.
	room(ctx context.Context, db *dbsql.DB) error
	// intact returns why what is written now would be lost. It is asked at every commit.
	intact() error
	// scrub makes sure that what was deleted is not left in what the engine has freed, as far as it can.
	scrub(ctx context.Context, db *dbsql.DB) error
	// close gives back what is not the database handle's.
	close() error
}

// writing is a transaction that writes, with the connection that it runs on: PostgreSQL's COPY is not in database/sql.
type writing struct {
	conn *dbsql.Conn
	tx   *dbsql.Tx
}

func beginWriting(ctx context.Context, db *dbsql.DB) (*writing, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &writing{conn, tx}, nil
}

// end rolls back what was not committed, and gives the connection back.
func (w *writing) end() {
	_ = w.tx.Rollback() // after a commit there is nothing to roll back
	_ = w.conn.Close()
}

// keepAlive keeps a server that ends idle transactions from ending this one while its caller works, until the
// returned function is called. A caller that has stopped for good is not one that works. ctx is for the statements.
func (w *writing) keepAlive(ctx context.Context, interval time.Duration) (end func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			if _, err := w.tx.ExecContext(ctx, "SELECT 1"); err != nil {
				return // the next statement of the caller says so
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(over)
		<-done
	})
}
