package admin

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// TestWarningsReachTheCaller: every call that changes or checks something says what is legal and hardly meant, about
// what it touches alone.
func TestWarningsReachTheCaller(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/api/v1/config/services",
		`{"name": "odd", "endpoints": [{"host": "127.0.0.1", "port": 9000, "weight": 9}, {"host": "127.0.0.1", "port": `+
			`9001}]}`)
	for _, c := range []struct{ name, method, path, body, want string }{
		{"a creation", "POST", "/routes", `{"name": "r", "path": "/r", "method": "GETT", "service_id": "odd"}`,
			`did you mean "GET"?`},
		{"a replacement", "PUT", "/routes/r", `{"path": "/r", "methods": ["PSOT"], "service_id": "odd"}`,
			`did you mean "POST"?`},
		{"a patch", "PATCH", "/routes/r", `{"methods": ["DELTE"]}`, `did you mean "DELETE"?`},
		{"taking out", "POST", "/routes/r/disable", "", `did you mean "DELETE"?`},
		{"letting in", "POST", "/routes/r/enable", "", `did you mean "DELETE"?`},
		{"an endpoint", "POST", "/services/odd/endpoints", `{"host": "127.0.0.1", "port": 9002}`,
			`load_balancer_type "round_robin" sends every endpoint the same`},
		{"another resource", "POST", "/services", `{"name": "plain", "endpoints": [{"host": "127.0.0.1", "port": 9000}]}`,
			""},
		{"an apply", "POST", "/apply",
			`{"routes": [{"name": "x", "path": "/r", "methods": ["DELTE"], "service_id": "odd"}]}`, "can never match"},
		{"a dry run", "POST", "/apply?dry_run=true",
			`{"routes": [{"name": "y", "path": "/r", "methods": ["DELTE"], "service_id": "odd"}]}`, "can never match"},
		{"a comparison", "POST", "/diff",
			`{"routes": [{"name": "y", "path": "/r", "methods": ["DELTE"], "service_id": "odd"}]}`, "can never match"},
		{"a validation", "POST", "/validate",
			`{"routes": [{"name": "y", "path": "/r", "methods": ["GETT"], "direct_response": {}}]}`, `did you mean "GET"?`},
		{"a rollback", "POST", "/revisions/4/rollback", "", `sends every endpoint the same`},
	} {
		r := a.call(c.method, "/api/v1/config"+c.path, c.body)
		if got := fmt.Sprint(r.Meta.Warnings); r.status >= 300 || (c.want == "") != (len(r.Meta.Warnings) == 0) ||
			!strings.Contains(got, c.want) {
			t.Errorf("%s: %d %s", c.name, r.status, r.raw)
		}
	}

	conn, err := grpc.NewClient("passthrough:///"+a.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	reply, err := adminv1.NewRouteConfigServiceClient(conn).CreateRoute(ctx,
		&adminv1.CreateRouteRequest{Route: &configv1.Route{
			Name: "g", Path: "/g", Method: "GETT", DirectResponse: &configv1.DirectResponse{},
		}})
	if w := reply.GetMeta().GetWarnings(); err != nil || len(w) != 1 || w[0].GetKind() != "route" ||
		w[0].GetName() != "g" || w[0].GetField() != "method" || w[0].GetValue() != "GETT" {
		t.Errorf("over gRPC: %v, %v", w, err)
	}
}
