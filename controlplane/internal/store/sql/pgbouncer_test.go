package sql

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/testserver"
)

// TestParametersOfSessions: what PgBouncer refuses at the start of a session is set later.
func TestParametersOfSessions(t *testing.T) {
	config, err := pgx.ParseConfig("postgres://gateway@127.0.0.1:1/x?sslmode=disable&application_name=a&timezone=UTC&" +
		"search_path=s&statement_timeout=7s&lock_timeout=3s")
	if err != nil {
		t.Fatal(err)
	}
	later := configure(config)
	if got := slices.Sorted(maps.Keys(later)); strings.Join(got, " ") != "lock_timeout search_path statement_timeout" {
		t.Errorf("later: %q", got)
	}
	if got := slices.Sorted(maps.Keys(config.RuntimeParams)); strings.Join(got, " ") != "application_name timezone" {
		t.Errorf("at the start: %q", got)
	}
}

// TestPgBouncer works through one, in session mode, with parameters in the URL that it refuses at the start of a
// session.
func TestPgBouncer(t *testing.T) {
	pooler := testserver.NewPgBouncer(t, testserver.NewPostgreSQL(t))
	s := opener(pooler + "&statement_timeout=60s&idle_in_transaction_session_timeout=30s")(t).(*Store)
	defer s.Close()
	head, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r, err := commitRoute(t, s, head, "a"); err != nil || r.Number != head.Number+1 {
		t.Errorf("%v, %v", r, err)
	}
	for name, want := range map[string]string{"statement_timeout": "1min", "idle_in_transaction_session_timeout": "30s"} {
		var got string
		if err := s.db.QueryRowContext(t.Context(), "SHOW "+name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	if _, total, err := s.Revisions(t.Context(), store.List{Limit: 1}); err != nil || total != 1 {
		t.Errorf("%d revisions, %v", total, err)
	}
}
