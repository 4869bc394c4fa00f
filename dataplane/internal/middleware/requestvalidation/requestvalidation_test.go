package requestvalidation

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/middleware"
)

// client is the client's side of a request with a body.
type client struct {
	exchange.Downstream
	body string
	read bool
}

func (c *client) BufferedBody() ([]byte, bool, error) { return nil, false, nil }

func (c *client) NextBody() ([]byte, error) {
	if c.read {
		return nil, io.EOF
	}
	c.read = true
	return []byte(c.body), nil
}

func stepOf(t testing.TB, config map[string]any) pipeline.Step {
	t.Helper()
	cfg, err := structpb.NewStruct(config)
	if err != nil {
		t.Fatal(err)
	}
	settings, errs := middleware.Parse("request_validation", cfg)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	env := &pipeline.Environment{Name: "a", Metrics: new(telemetry.Sets).Of("gateway_request_validation_", "middleware",
		"a")}
	s, err := New(settings, env)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var order = map[string]any{
	"type": "object", "required": []any{"count"}, "properties": map[string]any{"count": map[string]any{"type": "integer"}},
}

func document() map[string]any {
	body := map[string]any{"content": map[string]any{
		"application/json": map[string]any{"schema": order}, "image/*": map[string]any{},
	}}
	limit := map[string]any{"name": "limit", "in": "query", "schema": map[string]any{"type": "integer"}}
	return map[string]any{"openapi": "3.1.0", "paths": map[string]any{"/orders": map[string]any{
		"get": map[string]any{"parameters": []any{limit}}, "post": map[string]any{"requestBody": body},
	}}}
}

func TestRequests(t *testing.T) {
	const kind = "application/json"
	for _, c := range []struct {
		name, config string // "schema", "report", "document", "pass", or "small"
		request      string // method, target
		fields       string // names and values, with "|" between fields
		body         string
		chunked      bool
		status       int // 0: it passes
		code         fault.Code
	}{
		{"valid", "schema", "POST /a", kind, `{"count": 1}`, false, 0, ""},
		{"valid, of unknown length", "schema", "POST /a", kind, `{"count": 1}`, true, 0, ""},
		{"a kind of JSON", "schema", "POST /a", "application/merge-patch+json; charset=UTF-8", `{"count": 1}`, false, 0, ""},
		{"invalid", "schema", "POST /a", kind, `{"count": "1"}`, false, 400, fault.BadRequest},
		{"no JSON", "schema", "POST /a", kind, `{`, false, 400, fault.BadRequest},
		{"two members of one name", "schema", "POST /a", kind, `{"count": 1, "count": "x"}`, false, 400, fault.BadRequest},
		{"another media type", "schema", "POST /a", "text/plain", `{"count": 1}`, false, 415, fault.BadRequest},
		{"no media type", "schema", "POST /a", "", `{"count": 1}`, false, 415, fault.BadRequest},
		{"two media types", "schema", "POST /a", kind + "|Content-Type: " +
			"text/plain", `{"count": 1}`, false, 415, fault.BadRequest},
		{"another charset", "schema", "POST /a", kind + "; charset=utf-16", `{"count": 1}`, false, 415, fault.BadRequest},
		{"another charset, with spaces", "schema", "POST /a", kind + "; charset = utf-16", `{}`, false, 415, fault.BadRequest},
		{"another charset, in quotes", "schema", "POST /a", kind + `; charset="\u\tf-16"`, `{}`, false, 415, fault.BadRequest},
		{"another charset, extended", "schema", "POST /a", kind + `; charset*=us'en'utf-16`, `{}`, false, 415, fault.BadRequest},
		{"a charset in quotes", "schema", "POST /a", kind + `; Charset="UTF-8"`, `{"count": 1}`, false, 0, ""},
		{"a content coding", "schema", "POST /a", kind + "|Content-Encoding: gzip", `x`, false, 415, fault.BadRequest},
		{"no body", "schema", "POST /a", kind, ``, false, 400, fault.BadRequest},
		{"no body in chunks", "schema", "POST /a", kind, ``, true, 400, fault.BadRequest},
		{"no body where none is expected", "schema", "GET /a", "", ``, false, 0, ""},
		{"too long", "small", "POST /a", kind, `{"count": 1}` + strings.Repeat(" ", 90), false, 413, fault.RequestTooLarge},
		{"too long, in chunks", "small", "POST /a", kind, `{"count": 1}` + strings.Repeat(" ", 90), true, 413,
			fault.RequestTooLarge},
		{"too many values", "small", "POST /a", kind, `{"count": 1, "a": [1,2,3,4,5,6,7,8,9]}`, false, 400, fault.BadRequest},
		{"invalid, and only counted", "report", "POST /a", kind, `{"count": "1"}`, false, 0, ""},
		{"another media type, and only counted", "report", "POST /a", "text/plain", `x`, false, 0, ""},
		{"of unknown length, and only counted", "report", "POST /a", kind, `x`, true, 0, ""},

		{"an operation", "document", "GET /orders?limit=1", "", ``, false, 0, ""},
		{"an operation with a wrong parameter", "document", "GET /orders?limit=x", "", ``, false, 400, fault.BadRequest},
		{"a body where none is described", "document", "GET /orders", kind, `{}`, false, 400, fault.BadRequest},
		{"a body in chunks where none is described", "document", "GET /orders", kind, `{}`, true, 400, fault.BadRequest},
		{"an empty body in chunks", "document", "GET /orders", kind, ``, true, 0, ""},
		{"a valid body", "document", "POST /orders", kind, `{"count": 1}`, false, 0, ""},
		{"an invalid body", "document", "POST /orders", kind, `{}`, false, 400, fault.BadRequest},
		{"a body that is not looked at", "document", "POST /orders", "image/png", `x`, false, 0, ""},
		{"a body of another media type", "document", "POST /orders", "text/plain", `x`, false, 415, fault.BadRequest},
		{"another path", "document", "GET /other", "", ``, false, 404, fault.RouteNotFound},
		{"another method", "document", "PUT /orders", "", ``, false, 405, fault.MethodNotAllowed},
		{"another path, let pass", "pass", "GET /other", "", ``, false, 0, ""},
		{"another method, let pass", "pass", "PUT /orders", "", ``, false, 0, ""},
	} {
		s := stepOf(t, map[string]map[string]any{
			"schema": {"json_schema": order}, "report": {"json_schema": order, "mode": "report"},
			"small":    {"json_schema": order, "max_body_bytes": 100.0, "max_values": 10.0},
			"document": {"openapi": document()}, "pass": {"openapi": document(), "unknown": "pass"},
		}[c.config])
		x := &exchange.Exchange{}
		var target string
		x.Request.Method, target, _ = strings.Cut(c.request, " ")
		x.Request.Path, x.Request.RawQuery, _ = strings.Cut(target, "?")
		for line := range strings.SplitSeq("Content-Type: "+c.fields, "|") {
			if name, value, _ := strings.Cut(line, ": "); value != "" {
				x.Request.Header.Add(name, value)
			}
		}
		if x.Request.ContentLength = int64(len(c.body)); c.chunked {
			x.Request.ContentLength = -1
		}
		x.Down = &client{body: c.body, read: c.body == ""}
		passes, res := s.Request(x) == exchange.Continue, &x.Response
		if passes != (c.status == 0) || res.Status != c.status || res.Code != c.code {
			t.Errorf("%s: passes %t, %d %s", c.name, passes, res.Status, res.Code)
		}
		if c.status == 0 {
			rest, _, _ := x.Down.BufferedBody()
			for err := error(nil); err == nil; {
				var part []byte
				part, err = x.Down.NextBody()
				rest = append(rest, part...)
			}
			if string(rest) != c.body {
				t.Errorf("%s: the service gets %q", c.name, rest)
			}
			continue
		}
		if allow := x.Response.Header.Get("Allow"); (c.status == 405) != (allow == "GET, POST") {
			t.Errorf("%s: Allow %q", c.name, allow)
		}
		if kind := x.Response.Header.Get("Content-Type"); kind != "application/problem+json" {
			t.Errorf("%s: %s", c.name, kind)
		}
	}
	if _, err := New(&middlewarev1.Cors{}, nil); err == nil {
		t.Error("took settings of another type")
	}
}

// TestProblem is what a client is told.
func TestProblem(t *testing.T) {
	s := stepOf(t, map[string]any{"openapi": document()})
	x := &exchange.Exchange{}
	x.ID = `a"b`
	x.Request.Method, x.Request.Path, x.Request.RawQuery = "GET", "/orders", "limit=x"
	if s.Request(x) != exchange.Stop {
		t.Fatal("passed")
	}
	const want = `{"title":"Bad Request","status":400,"detail":"the request is not as it is described",` +
		`"code":"BAD_REQUEST","request_id":"a\"b",` +
		`"errors":[{"detail":"got string, want integer","parameter":"limit","in":"query"}]}` + "\n"
	if got := string(x.Response.Body); got != want {
		t.Errorf("got %s", got)
	}
	x.Reset()
	x.Request.Method, x.Request.Path, x.Request.ContentLength = "POST", "/orders", 13
	x.Request.Header.Add("Content-Type", "application/json")
	x.Down = &client{body: `{"count":"x"}`}
	s.Request(x)
	var d details
	if err := json.Unmarshal(x.Response.Body, &d); err != nil || len(d.Errors) != 1 || *d.Errors[0].Pointer != "#/count" ||
		d.Errors[0].In != "body" {
		t.Errorf("got %s, %v", x.Response.Body, err)
	}
	x.Reset()
	x.RPC = exchange.GRPC
	x.Request.Method, x.Request.Path = "PUT", "/orders"
	if s.Request(x); x.Response.Code != fault.MethodNotAllowed || strings.Contains(string(x.Response.Body), "title") {
		t.Errorf("a call of gRPC is told %s", x.Response.Body)
	}
}

// TestLoops: what reads a body is called again where it may wait.
func TestLoops(t *testing.T) {
	s := stepOf(t, map[string]any{"json_schema": order})
	x := &exchange.Exchange{}
	x.Request.Method, x.Request.ContentLength, x.InLoop = "POST", 12, true
	x.Request.Header.Add("Content-Type", "application/json")
	x.Down = &client{body: `{"count": 1}`}
	if s.Request(x) != exchange.Later {
		t.Fatal("it waits in a loop")
	}
	if x.InLoop = false; s.Request(x) != exchange.Continue {
		t.Fatal("it is refused")
	}
}

func BenchmarkSchema(b *testing.B) {
	s := stepOf(b, map[string]any{"json_schema": order})
	x := &exchange.Exchange{}
	b.ReportAllocs()
	for b.Loop() {
		x.Reset()
		x.Request.Method, x.Request.ContentLength = "POST", 12
		x.Request.Header.Add("Content-Type", "application/json")
		x.Down = &client{body: `{"count": 1}`}
		if s.Request(x) != exchange.Continue {
			b.Fatal("refused")
		}
	}
}
