package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/fleet"
	"gateway.internal/controlplane/internal/store/sql"
	"gateway.internal/shared/waittest"
)

const token = "the-administrators-token"

type api1 struct {
	t      testing.TB
	url    string
	grpc   string // its address
	header http.Header

	catalog *catalog.Catalog
	server  *Server
}

func newAPI(t testing.TB) *api1 {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s, err := sql.Open(t.Context(), "embedded:"+filepath.Join(t.TempDir(), "g.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	c := catalog.New(s, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	registry := prometheus.NewRegistry()
	a := New(c, s, fleet.New(registry), token, log, registry)
	g := a.GRPC()
	rest, err := a.NewREST(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(rest)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(ln) }()
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		_ = a.Run(ctx)
	}()
	t.Cleanup(func() {
		server.Close()
		_ = rest.Close()
		g.Stop()
		cancel()
		<-done
		<-ran
		_ = s.Close()
	})
	waittest.UntilNil(t, "catalog", func() error {
		if r := a.Ready(); r != "" {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	return &api1{t, server.URL, ln.Addr().String(), http.Header{"Authorization": {"Bearer " + token}}, c, a}
}

type reply struct {
	status int
	header http.Header
	raw    string

	Success bool
	Data    any
	Error   struct {
		Code, Message, Field string
		Details              []map[string]any
		CurrentVersion       int `json:"current_version"`
	}
	Meta struct {
		RequestID string `json:"request_id"`
		Version   string
		Revision  int
		Total     int
		Warnings  []map[string]any
	}
}

func (a *api1) call(method, path, body string, header ...string) *reply {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header = a.header.Clone()
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	r := &reply{status: res.StatusCode, header: res.Header, raw: string(text)}
	if err := json.Unmarshal(text, r); err != nil {
		a.t.Fatalf("%s %s: %v in %s", method, path, err, text)
	}
	if r.Meta.RequestID == "" || r.Meta.Version != "v1" || r.Success != (res.StatusCode < 400) {
		a.t.Errorf("%s %s: no envelope: %s", method, path, text)
	}
	described, err := served()
	if err != nil {
		a.t.Fatal(err)
	}
	if err := described.check(method, path, r); err != nil {
		a.t.Errorf("%s %s is not answered as described: %v\n%s", method, path, err, text)
	}
	return r
}

func (a *api1) must(method, path, body string, header ...string) *reply {
	a.t.Helper()
	r := a.call(method, path, body, header...)
	if r.status >= 300 {
		a.t.Fatalf("%s %s: %d %s", method, path, r.status, r.raw)
	}
	return r
}

func (r *reply) field(path ...string) any {
	v := r.Data
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

const users = `{"name":"users","endpoints":[{"host":"127.0.0.1","port":9000}]}`

func TestLifeOfAResource(t *testing.T) {
	a := newAPI(t)
	r := a.must("POST", "/api/v1/config/services", users)
	id, _ := r.field("id").(string)
	if r.status != 201 || id == "" || r.header.Get("Location") != "/api/v1/config/services/"+id || r.header.Get("ETag") != `"1"` || r.Meta.Revision != 1 || r.field("load_balancer_type") != "round_robin" {
		t.Errorf("create: %d %v %s", r.status, r.header, r.raw)
	}
	r = a.must("POST", "/api/v1/config/routes", `{"name":"r","path":"/users/*","service_id":"users"}`)
	if r.field("service_id") != "users" || r.field("enabled") != true {
		t.Errorf("a route: %s", r.raw)
	}
	r = a.must("PATCH", "/api/v1/config/routes/r", `{"priority":5}`)
	if r.field("priority") != 5.0 || r.field("path") != "/users/*" || r.field("version") != 2.0 {
		t.Errorf("patch: %s", r.raw)
	}
	r = a.must("PUT", "/api/v1/config/routes/r", `{"path":"/u/*","methods":["GET"],"service_id":"users"}`, "If-Match", `"2"`)
	if r.field("priority") != 0.0 || r.field("path") != "/u/*" || r.field("name") != "r" {
		t.Errorf("put: %s", r.raw)
	}
	if r = a.must("POST", "/api/v1/config/routes/r/disable", ""); r.field("enabled") != false {
		t.Errorf("disable: %s", r.raw)
	}
	if r = a.must("GET", "/api/v1/config/routes?enabled=true", ""); r.Meta.Total != 0 {
		t.Errorf("enabled ones: %s", r.raw)
	}
	a.must("POST", "/api/v1/config/routes/r/enable", "")
	if r = a.must("GET", "/api/v1/config/routes?path=/u/7&method=get", ""); r.Meta.Total != 1 {
		t.Errorf("matching ones: %s", r.raw)
	}
	r = a.must("POST", "/api/v1/config/services/users/endpoints", `{"host":"127.0.0.1","port":9001,"weight":3}`)
	if n := len(r.field("endpoints").([]any)); n != 2 {
		t.Errorf("%d endpoints", n)
	}
	a.must("DELETE", "/api/v1/config/services/users/endpoints/127.0.0.1/9000", "")
	if r = a.must("GET", "/api/v1/config/services/users/endpoints", ""); len(r.Data.([]any)) != 1 {
		t.Errorf("endpoints: %s", r.raw)
	}
	if r = a.call("DELETE", "/api/v1/config/services/users", ""); r.status != 409 || r.Error.Code != "RESOURCE_IN_USE" {
		t.Errorf("delete of a used service: %d %s", r.status, r.raw)
	}
	a.must("DELETE", "/api/v1/config/routes/r", "")
	a.must("DELETE", "/api/v1/config/services/users", "")
	if r = a.must("GET", "/api/v1/config/revisions", ""); r.Meta.Total != 10 {
		t.Errorf("%d revisions", r.Meta.Total)
	}
}

func TestErrors(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/api/v1/config/services", users)
	for _, c := range []struct {
		method, path, body string
		header             []string
		status             int
		code, field        string
	}{
		{"GET", "/api/v1/config/services", "", []string{"Authorization", "Bearer wrong"}, 401, "UNAUTHENTICATED", ""},
		{"GET", "/api/v1/config/services", "", []string{"Authorization", ""}, 401, "UNAUTHENTICATED", ""},
		{"GET", "/api/v2/config/services", "", nil, 400, "UNSUPPORTED_VERSION", ""},
		{"GET", "/api/v1/config/services", "", []string{"X-API-Version", "3"}, 400, "UNSUPPORTED_VERSION", ""},
		{"GET", "/api/v1/nothing", "", nil, 404, "NOT_FOUND", ""},
		{"PUT", "/api/v1/config/apply", "", nil, 405, "METHOD_NOT_ALLOWED", ""},
		{"GET", "/api/v1/config/services/nope", "", nil, 404, "NOT_FOUND", ""},
		{"POST", "/api/v1/config/services", users, nil, 409, "ALREADY_EXISTS", "name"},
		{"POST", "/api/v1/config/services", `{"name":"x","colour":"red"}`, nil, 400, "INVALID_ARGUMENT", "colour"},
		{"POST", "/api/v1/config/services", `{"name":`, nil, 400, "INVALID_ARGUMENT", ""},
		{"POST", "/api/v1/config/services", `{"name":"x","endpoints":[{"host":"h","port":70000}]}`, nil, 422, "VALIDATION_FAILED", "endpoints[0].port"},
		{"POST", "/api/v1/config/routes", `{"name":"r","path":"/x","service_id":"usrs"}`, nil, 422, "VALIDATION_FAILED", "service_id"},
		{"POST", "/api/v1/config/middleware", `{"name":"m","type":"magic"}`, nil, 422, "VALIDATION_FAILED", "type"},
		{"PUT", "/api/v1/config/services/users", users, []string{"If-Match", `"9"`}, 412, "PRECONDITION_FAILED", "version"},
		{"PUT", "/api/v1/config/services/users", `{"version":9}`, nil, 409, "VERSION_CONFLICT", "version"},
		{"PUT", "/api/v1/config/services/users", users, []string{"If-Match", `seven`}, 400, "INVALID_ARGUMENT", "If-Match"},
		{"GET", "/api/v1/config/services?per_page=5000", "", nil, 400, "INVALID_ARGUMENT", "per_page"},
		{"GET", "/api/v1/config/services?sort=colour", "", nil, 400, "INVALID_ARGUMENT", "sort"},
		{"GET", "/api/v1/config/revisions/99", "", nil, 404, "NOT_FOUND", ""},
		{"POST", "/api/v1/config/revisions/99/rollback", "", nil, 404, "NOT_FOUND", ""},
		{"POST", "/api/v1/config/apply?expected_revision=77", `{}`, nil, 409, "VERSION_CONFLICT", "expected_revision"},
	} {
		r := a.call(c.method, c.path, c.body, c.header...)
		if r.status != c.status || r.Error.Code != c.code || r.Error.Field != c.field {
			t.Errorf("%s %s %s: got %d %s %q: %s", c.method, c.path, c.body, r.status, r.Error.Code, r.Error.Field, r.raw)
		}
		if strings.Contains(r.raw, token) {
			t.Errorf("%s %s shows the token", c.method, c.path)
		}
	}
	if r := a.call("POST", "/api/v1/config/apply", string(bytes.Repeat([]byte(" "), MaxRequestBytes+1))); r.status != 413 {
		t.Errorf("a huge body: %d", r.status)
	}
}

const all = `{"services":[{"name":"users","endpoints":[{"host":"127.0.0.1","port":9000}]}],
"routes":[{"name":"a","path":"/a","service_id":"users"},{"name":"b","path":"/b","service_id":"users"}]}`

func TestApplyDiffAndRollback(t *testing.T) {
	a := newAPI(t)
	if r := a.must("POST", "/api/v1/config/apply?dry_run=true", all); r.Meta.Revision != 0 || r.field("committed") != false || len(r.field("changes").([]any)) != 3 {
		t.Errorf("dry run: %s", r.raw)
	}
	if r := a.must("POST", "/api/v1/config/apply?message=first&author=ann", all); r.Meta.Revision != 1 || r.field("committed") != true {
		t.Errorf("apply: %s", r.raw)
	}
	if r := a.must("POST", "/api/v1/config/apply", all); r.Meta.Revision != 1 || r.field("committed") != false {
		t.Errorf("the same again: %s", r.raw)
	}
	next := strings.Replace(all, `{"name":"b","path":"/b","service_id":"users"}`, `{"name":"b","path":"/bb","service_id":"users"}`, 1)
	r := a.must("POST", "/api/v1/config/diff", next)
	if want := `[{"action":"ACTION_UPDATED"`; !strings.Contains(strings.ReplaceAll(r.raw, " ", ""), want) || !strings.Contains(r.raw, `"/bb"`) {
		t.Errorf("diff: %s", r.raw)
	}
	a.must("POST", "/api/v1/config/apply", next)
	onlyA := `{"services":[{"name":"users","endpoints":[{"host":"127.0.0.1","port":9000}]}],"routes":[{"name":"a","path":"/a","service_id":"users"}]}`
	a.must("POST", "/api/v1/config/apply?prune=true", onlyA)
	if r := a.must("GET", "/api/v1/config/routes", ""); r.Meta.Total != 1 {
		t.Errorf("prune: %s", r.raw)
	}
	r = a.must("POST", "/api/v1/config/revisions/1/rollback", "")
	if r.Meta.Revision != 4 {
		t.Errorf("rollback: %s", r.raw)
	}
	if r := a.must("GET", "/api/v1/config/routes/b", ""); r.field("path") != "/b" {
		t.Errorf("after the rollback: %s", r.raw)
	}
	if r := a.must("GET", "/api/v1/config/diff?from=1&to=4", ""); len(r.Data.([]any)) != 0 {
		t.Errorf("revisions 1 and 4 differ: %s", r.raw)
	}
	if r := a.must("GET", "/api/v1/config/revisions/4", ""); r.field("rollback_of") != 1.0 || r.field("message") != "rollback to revision 1" {
		t.Errorf("revision 4: %s", r.raw)
	}
	if r := a.must("GET", "/api/v1/config/revisions?author=ann", ""); r.Meta.Total != 1 {
		t.Errorf("ann's: %s", r.raw)
	}
	if r := a.must("GET", "/api/v1/config/export?revision=2", ""); !strings.Contains(r.raw, "/bb") || strings.Contains(r.raw, `"id":"`) && !strings.Contains(r.raw, `"id":""`) {
		t.Errorf("export: %s", r.raw)
	}
	if r := a.must("POST", "/api/v1/config/validate", `{"routes":[{"name":"x","path":"/x","service_id":"none"}]}`); r.field("valid") != false {
		t.Errorf("validate: %s", r.raw)
	}
}
