package sql

import (
	dbsql "database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pressly/goose/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
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

// testEverySetting commits resources whose every field has a value of its own, and looks for each by its path.
func testEverySetting(t *testing.T, s *Store) {
	defer s.Close()
	settings := 0
	for round := range 3 { // of a oneof, another one is set in each
		f := &numbered{round: round}
		var all []config.Message
		ids := map[config.Kind]string{}
		for _, k := range config.Kinds() {
			m := config.New(k)
			f.fill(m.ProtoReflect())
			ids[k] = uuid.NewString()
			switch m := m.(type) {
			case *configv1.Certificate:
				m.Id, m.KeyPem = ids[k], ""
			case *configv1.Middleware:
				m.Id, m.Type, m.Config = ids[k], "headers", headersOf(t, "set", map[string]any{"X-A": "of the config"})
			case *configv1.Pipeline:
				m.Id, m.MiddlewareIds = ids[k], []string{ids[config.Middleware]}
			case *configv1.Service:
				m.Id, m.PipelineId, m.PolicyId = ids[k], ids[config.Pipeline], ids[config.Policy]
			case *configv1.Route:
				m.Id, m.ServiceId = ids[k], ids[config.Service]
				m.PipelineId, m.PolicyId = ids[config.Pipeline], ids[config.Policy]
				for _, b := range m.GetBackends() {
					b.ServiceId = ids[config.Service]
				}
			case *configv1.Policy:
				m.Id = ids[k]
			case *configv1.Consumer:
				m.Id = ids[k]
			}
			all = append(all, m)
		}
		commitAll(t, s, all...)
		for _, m := range all {
			settings += checkLeaves(t, s, m)
		}
	}
	if settings < 400 {
		t.Errorf("%d settings were looked for; there are more", settings)
	}
}

// checkLeaves asks the database for all values of a resource by their paths, and returns how many these are.
func checkLeaves(t *testing.T, s *Store, m config.Message) int {
	t.Helper()
	_, sqlite := s.dialect.(*embedded)
	var names, columns, want []string
	args := []any{m.GetId()}
	eachLeaf(m.ProtoReflect(), nil, func(path []string, value string) {
		if path[0] == "named_references" {
			value = "" // only control planes know them
		}
		names, want = append(names, strings.Join(path, ".")), append(want, value)
		if sqlite {
			args = append(args, pathOfSQLite(path))
			columns = append(columns, fmt.Sprintf("json_extract(resource, $%d)", len(args)))
		} else {
			args = append(args, path)
			columns = append(columns, fmt.Sprintf("resource #>> $%d", len(args)))
		}
	})
	got, into := make([]dbsql.NullString, len(want)), make([]any, len(want))
	for i := range got {
		into[i] = &got[i]
	}
	table := config.KindOfMessage(m).Plural()
	query := "SELECT " + strings.Join(columns, ", ") + " FROM " + table + " WHERE id = $1"
	if err := s.db.QueryRowContext(t.Context(), query, args...).Scan(into...); err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		if v.String != want[i] && !(sqlite && v.String == "1" && want[i] == "true") { // SQLite has no booleans
			t.Errorf("%s: %s is %q, want %q", table, names[i], v.String, want[i])
		}
	}
	return len(want)
}

func pathOfSQLite(path []string) string {
	out := "$"
	for _, p := range path {
		if _, err := strconv.Atoi(p); err == nil {
			out += "[" + p + "]"
		} else {
			out += `."` + p + `"`
		}
	}
	return out
}

// numbered fills messages with values of which no two are alike.
type numbered struct{ round, made int }

func (f *numbered) next() int { f.made++; return f.made }

func (f *numbered) fill(m protoreflect.Message) {
	switch v := m.Interface().(type) {
	case *timestamppb.Timestamp:
		v.Seconds = int64(1e9 + f.next())
		return
	case *structpb.Struct:
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if o := field.ContainingOneof(); o != nil && !o.IsSynthetic() && o.Fields().Get(f.round%o.Fields().Len()) != field {
			continue
		}
		switch {
		case field.IsMap():
			key := protoreflect.ValueOfString(fmt.Sprint("k", f.next())).MapKey()
			value := m.NewField(field).Map().NewValue()
			if field.MapValue().Message() != nil {
				f.fill(value.Message())
			} else {
				value = f.scalar(field.MapValue())
			}
			m.Mutable(field).Map().Set(key, value)
		case field.IsList():
			for list, n := m.Mutable(field).List(), 0; n < 2; n++ {
				if field.Message() != nil {
					f.fill(list.AppendMutable().Message())
				} else {
					list.Append(f.scalar(field))
				}
			}
		case field.Message() != nil:
			f.fill(m.Mutable(field).Message())
		default:
			m.Set(field, f.scalar(field))
		}
	}
}

func (f *numbered) scalar(field protoreflect.FieldDescriptor) protoreflect.Value {
	n := f.next()
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(n) << 32)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(n) << 32)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n) + 0.5)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprintf("of field %d of round %d", n, f.round))
	default:
		panic(fmt.Sprintf("say here what a value of %s is", field.FullName()))
	}
}

// eachLeaf calls f with the values that are in a message, as JSON's text, and their paths.
func eachLeaf(m protoreflect.Message, path []string, f func(path []string, value string)) {
	at := func(more ...string) []string { return append(append([]string{}, path...), more...) }
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(field.Name())
		leaf := func(field protoreflect.FieldDescriptor, v protoreflect.Value, path []string) {
			switch {
			case field.Message() == nil:
				f(path, v.String())
			case field.Message().FullName() == "google.protobuf.Timestamp":
				f(path, v.Message().Interface().(*timestamppb.Timestamp).AsTime().Format(time.RFC3339Nano))
			case field.Message().FullName() == "google.protobuf.Struct":
				f(append(path, "request", "set", "X-A"), "of the config")
			default:
				eachLeaf(v.Message(), path, f)
			}
		}
		switch {
		case field.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				leaf(field.MapValue(), v, at(name, key.String()))
				return true
			})
		case field.IsList():
			for i := range v.List().Len() {
				leaf(field, v.List().Get(i), at(name, strconv.Itoa(i)))
			}
		default:
			leaf(field, v, at(name))
		}
		return true
	})
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
		&configv1.Certificate{Id: "c1", Name: "cert", KeyPem: "canary key", CertPem: "public", CreatedAt: now, UpdatedAt: now},
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
		q := "INSERT INTO %s (id, name, created_at, updated_at, version, labels, body, %s) VALUES ($1, $2, $3, $3, 1, '{}', $4"
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
	endpoint := "INSERT INTO service_endpoints (service_id, seq, host, port, weight) VALUES ('s1', 0, 'canary.test', 80, 1)"
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
