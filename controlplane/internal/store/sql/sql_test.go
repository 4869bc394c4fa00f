package sql

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/reflect/protoreflect"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/internal/store/storetest"
	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/config"
	"gateway.internal/shared/secretkey"
)

// opener opens a store: an embedded one with keys, the same each time, and PostgreSQL without.
func opener(url string) func(*testing.T) store.Store {
	keys, err := secretkey.Parse("c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ=")
	return func(t *testing.T) store.Store {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(url, "embedded:") {
			keys = nil
		}
		s, err := OpenSealed(t.Context(), url, keys, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPostgreSQL(t *testing.T) {
	server := testserver.NewPostgreSQL(t)
	n := 0
	storetest.Run(t, func(t *testing.T) storetest.Engine {
		n++
		name := fmt.Sprint("test", n)
		admin := func(t *testing.T, database string, statements ...string) {
			t.Helper()
			conn, err := pgx.Connect(t.Context(), strings.Replace(server.URL, "/postgres?", "/"+database+"?", 1))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			for _, q := range statements {
				if _, err := conn.Exec(t.Context(), q); err != nil {
					t.Fatal(err)
				}
			}
		}
		admin(t, "postgres", "CREATE DATABASE "+name)
		return storetest.Engine{
			Open: opener(strings.Replace(server.URL, "/postgres?", "/"+name+"?", 1)), Shared: true, Stop: server.Stop, Start: server.Start,
			NewEpoch: func(t *testing.T) { t.Helper(); admin(t, name, "UPDATE meta SET epoch = 'restored'") },
			ReadOnly: func(t *testing.T, on bool) {
				t.Helper()
				admin(t, "postgres", fmt.Sprintf("ALTER DATABASE %s SET default_transaction_read_only = %t", name, on),
					"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '"+name+"'")
			},
			Content: func(t *testing.T) string {
				t.Helper()
				return contentOf(t, strings.Replace(server.URL, "/postgres?", "/"+name+"?", 1))
			},
		}
	})
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Engine {
		path := filepath.Join(t.TempDir(), "gateway.db")
		open := opener("embedded:" + path)
		var opened *Store
		run := func(t *testing.T, q string) {
			t.Helper()
			opened.db.SetMaxOpenConns(1) // a pragma is of one connection
			if _, err := opened.db.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		return storetest.Engine{
			Open:     func(t *testing.T) store.Store { t.Helper(); opened = open(t).(*Store); return opened },
			NewEpoch: func(t *testing.T) { t.Helper(); run(t, "UPDATE meta SET epoch = 'restored'") },
			ReadOnly: func(t *testing.T, on bool) { t.Helper(); run(t, fmt.Sprintf("PRAGMA query_only = %t", on)) },
			Sealed:   true,
			Content: func(t *testing.T) string {
				t.Helper()
				var all strings.Builder
				for _, p := range []string{path, path + "-wal", path + "-shm"} {
					text, err := os.ReadFile(p)
					if err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Fatal(err)
					}
					all.Write(text)
				}
				return all.String()
			},
		}
	})
}

// contentOf returns every column of every row of all tables.
func contentOf(t *testing.T, url string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) == 0 {
		t.Fatalf("the tables are %v, %v", tables, err)
	}
	var all strings.Builder
	for _, table := range tables {
		rows, err := conn.Query(t.Context(), "SELECT * FROM "+pgx.Identifier{table}.Sanitize())
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			for _, column := range rows.RawValues() {
				all.Write(column)
			}
		}
		if rows.Err() != nil {
			t.Fatal(rows.Err())
		}
	}
	return all.String()
}

func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.db")
	s := opener("embedded:" + path)(t)
	defer s.Close()
	if _, err := Open(t.Context(), "embedded:"+path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second process: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, url := range []string{"", "mysql://x", "embedded:", "postgres://u:hunter2@host:port/db", "postgres://u:hunter2/x@host/db", "postgres://u:hunter2@h/db?sslmode=hunter2"} {
		if _, err := Open(t.Context(), url, slog.New(slog.DiscardHandler)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// places are where references are kept that have no column of their name. Other fields need no entry: each of them is
// in "resource", as TestReadable sees.
var places = map[string]string{"Pipeline.middleware_ids": "pipeline_middleware"}

// TestReferencesHaveForeignKeys: a field that refers to another resource has a column of its name, or rows in a table
// of its own.
func TestReferencesHaveForeignKeys(t *testing.T) {
	for _, k := range config.Kinds() {
		table, kept := tables()[k]
		if !kept {
			t.Errorf("%s have no table", k.Plural())
			continue
		}
		known := slices.Concat(common, table.columns)
		for _, c := range table.children {
			known = append(known, c.name)
		}
		fields := config.New(k).ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			place := cmp.Or(places[string(f.Parent().Name())+"."+string(f.Name())], string(f.Name()))
			if isReference(f) && !slices.Contains(known, place) {
				t.Errorf("%s refers to another resource and has no foreign key", f.FullName())
			}
		}
	}
}

func isReference(f protoreflect.FieldDescriptor) bool {
	return strings.HasSuffix(string(f.Name()), "_id") || strings.HasSuffix(string(f.Name()), "_ids")
}
