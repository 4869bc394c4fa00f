package sql

import (
	"context"
	dbsql "database/sql"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// dialect is what differs between engines.
type dialect interface {
	// migrations returns the schema's folder, goose's name of the engine and the lock that keeps replicas apart meanwhile.
	migrations() (fs.FS, goose.Dialect, []goose.ProviderOption, error)
	// lockHead is the query that reads epoch and head and keeps other writers out until the transaction ends.
	lockHead() string
	// readOnly are the options of a transaction that sees one state.
	readOnly() *dbsql.TxOptions
	// notify is run in a transaction that commits a revision.
	notify(ctx context.Context, tx *dbsql.Tx, number uint32) error
	// permanent reports whether an error is of what was asked for, not of the engine's condition.
	permanent(err error) bool
	// watch hints at commits of other processes until ctx ends; it is called with hint, which does not block.
	watch(ctx context.Context, hint func())
	// close gives back what is not the database handle's.
	close() error
}
