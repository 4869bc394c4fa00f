package sql

import (
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/identity/identitytest"
	"gateway.internal/shared/waittest"
)

// TestPostgreSQLOverTLS asks a real server whose certificate is verified.
func TestPostgreSQLOverTLS(t *testing.T) {
	server := testserver.NewPostgreSQL(t)
	dir := t.TempDir()
	ca, other := identitytest.NewAuthority(t, dir, "ca"), identitytest.NewAuthority(t, dir, "other")
	conn, err := pgx.Connect(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	// use has the server show a certificate for a name.
	use := func(name string) {
		t.Helper()
		certificate, key := ca.Issue(name)
		info, err := os.Stat(server.Dir())
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t)
		for from, to := range map[string]string{certificate: "server.crt", key: "server.key"} {
			text, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(server.Dir(), to)
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
				t.Fatal(err)
			}
		}
		for _, q := range []string{"ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"} {
			if _, err := conn.Exec(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
	}
	// at returns a URL with these parameters.
	at := func(query string) string {
		u, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		u.RawQuery = query
		return u.String()
	}
	load := func(query string) error {
		s, err := Open(t.Context(), at(query), slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		defer s.Close()
		_, _, err = s.Load(t.Context())
		return err
	}
	use("127.0.0.1")
	waittest.UntilNil(t, "PostgreSQL speaks TLS, and is verified",
		func() error { return load("sslmode=verify-full&sslrootcert=" + url.QueryEscape(ca.File)) })
	for query, says := range map[string]string{
		"sslmode=verify-full&sslrootcert=" + url.QueryEscape(other.File): "unknown authority",
		"sslmode=verify-full": "unknown authority",
	} {
		if err := load(query); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; it has to say %q", query, err, says)
		}
	}
	use("db.example.org")
	waittest.UntilNil(t, "a certificate of another name is refused", func() error {
		err := load("sslmode=verify-full&sslrootcert=" + url.QueryEscape(ca.File))
		if err != nil && strings.Contains(err.Error(), "127.0.0.1") {
			return nil
		}
		return errNoAnswer
	})
}

func TestWhatOfPostgreSQLIsVerified(t *testing.T) {
	for of, want := range map[string]bool{
		"postgres://u@db.internal/x":                                     false,
		"postgres://u@db.internal/x?sslmode=require":                     false,
		"postgres://u@db.internal/x?sslmode=disable":                     false,
		"postgres://u@db.internal/x?sslmode=verify-full":                 true,
		"postgres://u@127.0.0.1/x":                                       true,
		"postgres://u@localhost/x?sslmode=disable":                       true,
		"postgres://u@127.0.0.1,db.internal/x?sslmode=disable":           false,
		"postgres:///x?host=/var/run/postgresql&sslmode=disable":         true,
		"postgres://u@db1.internal,db2.internal/x?sslmode=verify-full":   true,
		"postgres://u@db.internal/x?sslmode=allow&application_name=test": false,
	} {
		config, err := pgx.ParseConfig(of)
		if err != nil {
			t.Fatal(err)
		}
		if got := verified(config); got != want {
			t.Errorf("%s: %v", of, got)
		}
	}
}
