package admin

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// TestPutCreates puts services in turn: each case begins with "there" at version 1.
func TestPutCreates(t *testing.T) {
	const body = `{"endpoints": [{"host": "127.0.0.1", "port": 9001}]}`
	for _, c := range []struct {
		name, method, path, body string
		fields                   []string
		status                   int
		code                     string
	}{
		{"one that is not there", "PUT", "/new", body, nil, 201, ""},
		{"with its name in the body", "PUT", "/new", `{"name": "new"}`, nil, 201, ""},
		{"with another name in the body", "PUT", "/new", `{"name": "other"}`, nil, 400, "INVALID_ARGUMENT"},
		{"what is no name", "PUT", "/New%20", body, nil, 422, "VALIDATION_FAILED"},
		{"an id that is not there", "PUT", "/5f2b6f0e-9c7b-4f0e-8d6c-0d9a4c0c9b11", body, nil, 404, "NOT_FOUND"},
		{"one that is there", "PUT", "/there", body, nil, 200, ""},
		{"only a new one", "PUT", "/new", body, []string{"If-None-Match", "*"}, 201, ""},
		{"only a new one, and it is there", "PUT", "/there", body, []string{"If-None-Match", "*"}, 412, "PRECONDITION_FAILED"},
		{"unless it is at its version", "PUT", "/there", body, []string{"If-None-Match", `"7", W/"1"`}, 412, "PRECONDITION_FAILED"},
		{"unless it is at another version", "PUT", "/there", body, []string{"If-None-Match", `"7"`}, 200, ""},
		{"If-None-Match that is none", "PUT", "/there", body, []string{"If-None-Match", `x`}, 400, "INVALID_ARGUMENT"},
		{"only one that is there", "PUT", "/new", body, []string{"If-Match", "*"}, 412, "PRECONDITION_FAILED"},
		{"only one at a version", "PUT", "/new", body, []string{"If-Match", `"1"`}, 412, "PRECONDITION_FAILED"},
		{"one that is there at its version", "PUT", "/there", body, []string{"If-Match", `"1"`}, 200, ""},
		{"one that is there at another", "PUT", "/there", body, []string{"If-Match", `"2"`}, 412, "PRECONDITION_FAILED"},
		{"a version in the body", "PUT", "/new", `{"version": 3}`, nil, 409, "VERSION_CONFLICT"},
		{"no creation by choice", "PUT", "/new?allow_missing=false", body, nil, 404, "NOT_FOUND"},
		{"a patch", "PATCH", "/new", body, nil, 404, "NOT_FOUND"},
		{"a patch that creates by choice", "PATCH", "/new?allow_missing=true", body, nil, 201, ""},
		{"what is wrong", "PUT", "/new", `{"protocol": "gopher"}`, nil, 422, "VALIDATION_FAILED"},
	} {
		a := newAPI(t)
		a.must("POST", "/api/v1/config/services", `{"name": "there"}`)
		r := a.call(c.method, "/api/v1/config/services"+c.path, c.body, c.fields...)
		if r.status != c.status || r.Error.Code != c.code {
			t.Errorf("%s: %d %s", c.name, r.status, r.raw)
			continue
		}
		location := r.header.Get("Location")
		if c.status != 201 {
			if location != "" {
				t.Errorf("%s: Location %q", c.name, location)
			}
			continue
		}
		if id, _ := r.field("id").(string); location != "/api/v1/config/services/"+id || r.header.Get("ETag") != `"1"` {
			t.Errorf("%s: Location %q, ETag %s of %v", c.name, location, r.header.Get("ETag"), r.Data)
		}
		if got := a.must("GET", location, ""); got.field("name") != "new" {
			t.Errorf("%s: there is %s", c.name, got.raw)
		}
	}
}

// TestUpdateCreatesOverGRPC does the same over gRPC, where it is asked for.
func TestUpdateCreatesOverGRPC(t *testing.T) {
	a := newAPI(t)
	conn, err := grpc.NewClient(a.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	client := adminv1.NewRouteConfigServiceClient(conn)
	ask := func(allow bool, name string, fields ...string) (*adminv1.UpdateRouteResponse, error) {
		return client.UpdateRoute(metadata.AppendToOutgoingContext(ctx, fields...), &adminv1.UpdateRouteRequest{
			Id: name, AllowMissing: proto.Bool(allow), Route: &configv1.Route{Path: "/a", DirectResponse: &configv1.DirectResponse{}},
		})
	}
	if _, err := ask(false, "a"); status.Code(err) != codes.NotFound {
		t.Errorf("without allow_missing: %v", err)
	}
	if r, err := ask(true, "a", "if-none-match", "*"); err != nil || !r.GetMeta().GetCreated() || r.GetRoute().GetName() != "a" || r.GetRoute().GetVersion() != 1 {
		t.Errorf("with it: %v, %v", r, err)
	}
	if _, err := ask(true, "a", "if-none-match", "*"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("again, if there is none: %v", err)
	}
	if r, err := ask(true, "a"); err != nil || r.GetMeta().GetCreated() {
		t.Errorf("again: %v, %v", r, err)
	}
}

// TestMethods asks every kind of path for every method.
func TestMethods(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/api/v1/config/services", `{"name": "s", "endpoints": [{"host": "127.0.0.1", "port": 9000}]}`)
	ask := func(method, path string) (*http.Response, int64) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, a.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = a.header.Clone()
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res, res.ContentLength
	}
	for _, c := range []struct{ path, allow string }{
		{"/api/v1/config/services", "GET, HEAD, OPTIONS, POST"},
		{"/api/v1/config/services/s", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"},
		{"/api/v1/config/services/s/endpoints", "GET, HEAD, OPTIONS, POST"},
		{"/api/v1/config/services/s/endpoints/127.0.0.1/9000", "DELETE, OPTIONS"},
		{"/api/v1/config/routes/r/enable", "OPTIONS, POST"},
		{"/api/v1/openapi.json", "GET, HEAD, OPTIONS"},
		{"/api/v1/nothing", ""},
	} {
		allowed := strings.Split(c.allow, ", ")
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} {
			may := false
			for _, m := range allowed {
				may = may || m == method
			}
			res, _ := ask(method, c.path)
			switch {
			case c.allow == "":
				if res.StatusCode != 404 {
					t.Errorf("%s %s: %d", method, c.path, res.StatusCode)
				}
			case !may:
				if res.StatusCode != 405 || res.Header.Get("Allow") != c.allow {
					t.Errorf("%s %s: %d, Allow %q, want %q", method, c.path, res.StatusCode, res.Header.Get("Allow"), c.allow)
				}
			case method == "OPTIONS":
				if res.StatusCode != 204 || res.Header.Get("Allow") != c.allow {
					t.Errorf("%s %s: %d, Allow %q, want %q", method, c.path, res.StatusCode, res.Header.Get("Allow"), c.allow)
				}
			case method == "HEAD":
				get, _ := ask("GET", c.path)
				if res.StatusCode != get.StatusCode || res.Header.Get("Etag") != get.Header.Get("Etag") || res.Header.Get("Content-Type") != get.Header.Get("Content-Type") {
					t.Errorf("HEAD %s: %d %v; GET: %d %v", c.path, res.StatusCode, res.Header, get.StatusCode, get.Header)
				}
			case res.StatusCode == 405:
				t.Errorf("%s %s: %d", method, c.path, res.StatusCode)
			}
		}
	}
}
