package sql

import (
	dbsql "database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/testserver"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
)

// TestReadable: whoever may read the database finds every setting by SQL, and no secret.
func TestReadable(t *testing.T) {
	server := testserver.NewPostgreSQL(t)
	admin := openSessionsOf(t, server.URL)
	engines := map[string]func(t *testing.T) string{
		"PostgreSQL": func(t *testing.T) string {
			t.Helper()
			name := "readable_" + strings.ReplaceAll(uuid.NewString(), "-", "")
			if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
				t.Fatal(err)
			}
			return strings.Replace(server.URL, "/postgres?", "/"+name+"?", 1)
		},
		"SQLite": func(t *testing.T) string { t.Helper(); return "embedded:" + filepath.Join(t.TempDir(), "g.db") },
	}
	for engine, url := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Run("every setting", func(t *testing.T) { testEverySetting(t, opener(url(t))(t).(*Store)) })
			t.Run("columns and lists", func(t *testing.T) { testColumns(t, opener(url(t))(t).(*Store)) })
			t.Run("no secrets", func(t *testing.T) { testNoSecrets(t, opener(url(t))(t).(*Store)) })
			t.Run("what an older build has written", func(t *testing.T) { testFilled(t, url(t)) })
		})
	}
}

// commitAll commits the creation of resources.
func commitAll(t *testing.T, s *Store, all ...config.Message) {
	t.Helper()
	var changes []config.Change
	for _, m := range all {
		changes = append(changes, config.Change{Kind: config.KindOfMessage(m), After: configtest.Entry(t, m)})
	}
	head, _, err := s.Load(t.Context())
	if err == nil {
		_, err = s.Commit(t.Context(), head, func([]store.Revision) (*store.Draft, error) {
			return &store.Draft{Changes: changes}, nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// asText returns the one value that a query yields as text, "NULL" for NULL.
func asText(t *testing.T, db *dbsql.DB, query string, args ...any) string {
	t.Helper()
	var v dbsql.NullString
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&v); err != nil {
		t.Errorf("%s: %v", query, err)
	}
	if !v.Valid {
		return "NULL"
	}
	return v.String
}

// headersOf is the config of a middleware "headers" that does something to requests.
func headersOf(t *testing.T, do string, what any) *structpb.Struct {
	t.Helper()
	s, err := structpb.NewStruct(map[string]any{"request": map[string]any{do: what}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// testColumns types what a person might.
func testColumns(t *testing.T, s *Store) {
	defer s.Close()
	off, now := false, timestamppb.Now()
	commitAll(t, s,
		&configv1.Middleware{
			Id: "m1", Name: "stamp", CreatedAt: now, UpdatedAt: now, Type: "headers", Order: 7,
			Config: headersOf(t, "remove", []any{"X-A"}),
		},
		&configv1.Pipeline{
			Id: "p1", Name: "front", CreatedAt: now, UpdatedAt: now, MiddlewareIds: []string{"m1"}, Parallel: true,
			TimeoutMs: 250,
		},
		&configv1.Service{
			Id: "s1", Name: "users", CreatedAt: now, UpdatedAt: now, Protocol: "http",
			Endpoints:         []*configv1.Endpoint{{Host: "10.0.0.1", Port: 80, Id: "first"}, {Host: "10.0.0.2", Port: 81}},
			HealthCheckConfig: &configv1.HealthCheckConfig{Path: "/ok"},
		},
		&configv1.Route{
			Id: "r1", Name: "one", CreatedAt: now, UpdatedAt: now, Path: "/users/*", Method: "GET", ServiceId: "s1",
			PipelineId: "p1", Priority: 5, Enabled: &off,
		},
		&configv1.Route{
			Id: "r2", Name: "two", CreatedAt: now, UpdatedAt: now, Path: "/both", Methods: []string{"GET", "PUT"},
			Backends: []*configv1.Backend{{ServiceId: "s1"}},
		},
	)
	made := config.EndpointID("s1", &configv1.Endpoint{Host: "10.0.0.2", Port: 81})
	for query, want := range map[string]string{
		"SELECT s.name FROM routes r JOIN services s ON s.id = r.service_id WHERE r.path = '/users/*'": "users",
		"SELECT method FROM routes WHERE name = 'one'":                                                 "GET",
		"SELECT name FROM routes WHERE NOT enabled":                                                    "one",
		"SELECT priority FROM routes WHERE path LIKE '/users/%'":                                       "5",
		"SELECT method FROM routes WHERE name = 'two'":                                                 "NULL",
		"SELECT resource -> 'methods' ->> 1 FROM routes WHERE name = 'two'":                            "PUT",
		"SELECT count(*) FROM route_backends WHERE service_id = 's1'":                                  "1",
		"SELECT health_check_config ->> 'path' FROM services":                                          "/ok",
		"SELECT circuit_breaker_config FROM services":                                                  "NULL",
		"SELECT id FROM service_endpoints WHERE host = '10.0.0.1'":                                     "first",
		"SELECT id FROM service_endpoints WHERE service_id = 's1' AND port = 81":                       made,
		"SELECT order_index FROM middleware WHERE type = 'headers'":                                    "7",
		"SELECT config -> 'request' -> 'remove' ->> 0 FROM middleware":                                 "X-A",
		"SELECT middleware_ids ->> 0 FROM pipelines WHERE parallel AND timeout_ms = 250":               "m1",
	} {
		if got := asText(t, s.db, query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

// withSecrets are resources with secrets, each of which has "canary" in it, and texts that stand for them.
func withSecrets(t *testing.T) []config.Message {
	t.Helper()
	now := timestamppb.Now()
	return []config.Message{
		&configv1.Certificate{Id: "c1", Name: "cert", KeyPem: "canary key", CertPem: "public", CreatedAt: now,
			UpdatedAt: now},
		&configv1.Middleware{Id: "m1", Name: "auth", Type: "headers", CreatedAt: now, UpdatedAt: now,
			Config:      headersOf(t, "set", map[string]any{"A": "canary"}),
			Environment: map[string]string{"config.request.set.A": "${env:TOKEN}"}},
		&configv1.Service{Id: "s1", Name: "s", Labels: map[string]string{"l": "canary"}, CreatedAt: now, UpdatedAt: now,
			Endpoints:   []*configv1.Endpoint{{Host: "canary.test", Port: 80}},
			Environment: map[string]string{"endpoints[0].host": "${env:HOST}", "labels.l": "${env:LABEL}"}},
		&configv1.Route{Id: "r1", Name: "r", Path: "/canary", ServiceId: "s1", CreatedAt: now, UpdatedAt: now,
			Environment: map[string]string{"path": "${env:PATH}" + strings.Repeat("x", 4000), "service_id": "${env:SERVICE}"}},
	}
}

func testNoSecrets(t *testing.T, s *Store) {
	defer s.Close()
	commitAll(t, s, withSecrets(t)...)
	checkNoSecrets(t, s)
}

func checkNoSecrets(t *testing.T, s *Store) {
	t.Helper()
	for query, want := range map[string]string{
		"SELECT config -> 'request' -> 'set' ->> 'A' FROM middleware":                                   "${env:TOKEN}",
		"SELECT resource -> 'config' -> 'request' -> 'set' ->> 'A' FROM middleware WHERE name = 'auth'": "${env:TOKEN}",
		"SELECT host FROM service_endpoints":                                                            "${env:HOST}",
		"SELECT labels ->> 'l' FROM services":                                                           "${env:LABEL}",
		"SELECT substr(path, 1, 11) FROM routes WHERE id = 'r1'":                                        "${env:PATH}",
		"SELECT service_id FROM routes WHERE id = 'r1'":                                                 "s1",
		"SELECT resource ->> 'cert_pem' FROM certificates":                                              "public",
		"SELECT resource ->> 'key_pem' FROM certificates":                                               "NULL",
	} {
		if got := asText(t, s.db, query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for _, k := range config.Kinds() {
		names := []string{k.Plural()}
		for _, c := range tables()[k].children {
			names = append(names, c.name)
		}
		for _, name := range names {
			for _, line := range linesOf(t, s.db, name) {
				if strings.Contains(line, "canary") {
					t.Errorf("%s has a secret that can be read: %s", name, line)
				}
			}
		}
	}
}

// linesOf returns the rows of a table without its columns of bytes.
func linesOf(t *testing.T, db *dbsql.DB, table string) (all []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT * FROM "+table)
	if err != nil {
		t.Fatal(err)
	}
	types, err := rows.ColumnTypes()
	if err != nil {
		t.Fatal(err)
	}
	err = each(t.Context(), rows, func() error {
		values := make([]dbsql.NullString, len(types))
		into := make([]any, len(types))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		var line strings.Builder
		for i, v := range values {
			if kind := types[i].DatabaseTypeName(); kind != "BYTEA" && kind != "BLOB" {
				fmt.Fprintf(&line, "%s=%s ", types[i].Name(), v.String)
			}
		}
		all = append(all, line.String())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
