package sql

import (
	dbsql "database/sql"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
)

// testFilled begins with a database as the build before "resource" has left it, and has that build commit once more
// beside this one.
func testFilled(t *testing.T, url string) {
	var db *dbsql.DB
	var d dialect
	var err error
	if path, isFile := strings.CutPrefix(url, "embedded:"); isFile {
		db, d, err = openSQLite(path)
	} else {
		db, d, err = openPostgreSQL(url, slog.New(slog.DiscardHandler))
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, name, opts, err := d.migrations()
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(name, db, dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	insert := func(db *dbsql.DB, m config.Message, after string, values ...any) {
		t.Helper()
		kept := configtest.Entry(t, m).Stored()
		now := time.Now().UTC().Format(time.RFC3339Nano)
		q := "INSERT INTO %s (id, name, created_at, updated_at, version, labels, body, %s) " +
			"VALUES ($1, $2, $3, $3, 1, '{}', $4"
		q = fmt.Sprintf(q, config.KindOfMessage(m).Plural(), after)
		for i := range values {
			q += fmt.Sprintf(", $%d", 5+i)
		}
		if m.GetId() == "m1" {
			values[len(values)-1] = kept.Settings
		}
		args := append([]any{m.GetId(), m.GetName(), now, kept.Body}, values...)
		if _, err := db.ExecContext(t.Context(), q+")", args...); err != nil {
			t.Fatal(err)
		}
	}
	all := withSecrets(t)
	insert(db, all[0], "hosts", "[]")
	insert(db, all[1], "type, position, enabled, config, settings", "headers", int64(7), true, `{"A": "canary"}`, nil)
	insert(db, all[2], "protocol, load_balancer_type", "http", "")
	endpoint := "INSERT INTO service_endpoints (service_id, seq, host, port, weight) " +
		"VALUES ('s1', 0, 'canary.test', 80, 1)"
	if _, err := db.ExecContext(t.Context(), endpoint); err != nil {
		t.Fatal(err)
	}
	insert(db, all[3], "path, methods, hosts, enabled, priority", "/canary", "[]", "[]", true, int64(0))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}

	s := opener(url)(t).(*Store)
	_, before, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkNoSecrets(t, s)
	made := config.EndpointID("s1", &configv1.Endpoint{Host: "canary.test", Port: 80})
	if got := asText(t, s.db, "SELECT id FROM service_endpoints"); got != made {
		t.Errorf("the endpoint got the id %s", got)
	}
	if got := asText(t, s.db, "SELECT order_index FROM middleware"); got != "0" { // as its body says
		t.Errorf("order_index is %s", got)
	}
	// A replica of the older build commits.
	now := timestamppb.Now()
	insert(s.db, &configv1.Route{Id: "r2", Name: "r2", Path: "/later", CreatedAt: now, UpdatedAt: now},
		"path, methods, hosts, enabled, priority", "/later", "[]", "[]", true, int64(0))
	insert(s.db, &configv1.Pipeline{Id: "p2", Name: "p2", TimeoutMs: 5, CreatedAt: now, UpdatedAt: now},
		"parallel, timeout_ms, is_global", false, int64(5), false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = opener(url)(t).(*Store)
	defer s.Close()
	_, after, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkNoSecrets(t, s)
	if got := asText(t, s.db, "SELECT resource ->> 'path' FROM routes WHERE id = 'r2'"); got != "/later" {
		t.Errorf("the older replica's route has the path %s", got)
	}
	for _, m := range all { // nothing else was touched
		k := config.KindOfMessage(m)
		want := configtest.Entry(t, m).Hash()
		if before.ByID(k, m.GetId()).Hash() != want || after.ByID(k, m.GetId()).Hash() != want {
			t.Errorf("%s %s has another hash", k, m.GetName())
		}
	}
}
