package admin

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
)

// TestWhatACallDoesNotTake sends mutating calls what they have no place for. None does anything.
func TestWhatACallDoesNotTake(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/api/v1/config/services", `{"name": "s", "endpoints": [{"host": "127.0.0.1", "port": 9000}]}`)
	a.must("POST", "/api/v1/config/routes", `{"name": "r", "path": "/r", "service_id": "s"}`)
	for _, test := range []struct {
		name, method, path, body, header string
		status                           int
		want                             string // in the message
	}{
		{"an unknown query parameter", "POST", "/api/v1/config/apply?dryrun=true", `{}`, "", 400, `did you mean "dry_run"`},
		{"a query parameter where there are none", "POST", "/api/v1/config/routes/r/disable?dry_run=true", "", "", 400, "this call has none"},
		{"a query parameter on a creation", "POST", "/api/v1/config/routes?dry_run=1", `{"name": "x", "path": "/x", "service_id": "s"}`, "", 400, "this call has none"},
		{"a query parameter on a deletion", "DELETE", "/api/v1/config/routes/r?dry_run=true", "", "", 400, "there are version"},
		{"a member of a body that is no parameter", "POST", "/api/v1/config/revisions/1/rollback", `{"dryrun": true}`, "", 400,
			`dryrun is no member of this call's body: did you mean "dry_run"`},
		{"a body of another shape", "POST", "/api/v1/config/revisions/1/rollback", `[true]`, "", 400, "takes no body but"},
		{"a nested member", "POST", "/api/v1/config/revisions/1/rollback", `{"message": {"text": "x"}}`, "", 400, "has to be a string"},
		{"a parameter in both places", "POST", "/api/v1/config/revisions/1/rollback?dry_run=true", `{"dry_run": false}`, "", 400, "in the query and in the body"},
		{"a body on a deletion", "DELETE", "/api/v1/config/routes/r", `{"dry_run": true}`, "", 400,
			"dry_run is no member of this call's body: there are version"},
		{"text after the body", "POST", "/api/v1/config/apply", `{} {"routes": []}`, "", 400, "goes on after"},
		{"text after the object of a call without a body", "POST", "/api/v1/config/routes/r/disable", `{} x`, "", 400, "takes no body but"},
		{"If-Match on a rollback", "POST", "/api/v1/config/revisions/1/rollback", "", "If-Match", 400, "If-Match"},
		{"If-Match on an apply", "POST", "/api/v1/config/apply", `{}`, "If-Match", 400, "expected_revision"},
		{"If-Match on a creation", "POST", "/api/v1/config/routes", `{"name": "x", "path": "/x", "service_id": "s"}`, "If-Match", 400, "If-Match"},
		{"a path that is not UTF-8", "DELETE", "/api/v1/config/routes/%ff", "", "", 400, "UTF-8"},
		{"a query that is not UTF-8", "POST", "/api/v1/config/apply?message=%ff", `{}`, "", 400, "UTF-8"},
		{"a rollback to before the first revision", "POST", "/api/v1/config/revisions/0/rollback", "", "", 404,
			"there is no revision 0"},
		{"a rollback to what is not there yet", "POST", "/api/v1/config/revisions/7/rollback", "", "", 404,
			"there is no revision 7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var header []string
			if test.header != "" {
				header = []string{test.header, `"1"`}
			}
			r := a.call(test.method, test.path, test.body, header...)
			if r.status != test.status || !strings.Contains(r.Error.Message, test.want) {
				t.Errorf("got %d %s, want %d with %q", r.status, r.raw, test.status, test.want)
			}
		})
	}
	if r := a.must("GET", "/api/v1/config/revisions", ""); r.Meta.Total != 2 {
		t.Errorf("something was committed: %s", r.raw)
	}
}

func TestAuthorsAreOneLine(t *testing.T) {
	a := newAPI(t)
	for query, status := range map[string]int{
		"author=J%C3%BCrgen+Wei%C3%9F":               200,
		"author=ann%0A99+mallory":                    400,
		"author=ann%1B%5B2K":                         400,
		"author=ann%C2%9B1A":                         400,
		"message=first%0A%0Aand+why":                 200,
		"author=" + strings.Repeat("a", maxAuthor+1): 400,
	} {
		if r := a.call("POST", "/api/v1/config/apply?"+query, `{}`); r.status != status {
			t.Errorf("%s: %d, %s", query, r.status, r.raw)
		}
	}
}

// TestParametersInTheBody: a call that has no body takes its query parameters from one too.
func TestParametersInTheBody(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/api/v1/config/services", `{"name": "s", "endpoints": [{"host": "127.0.0.1", "port": 9000}]}`)
	a.must("POST", "/api/v1/config/services", `{"name": "t", "endpoints": [{"host": "127.0.0.1", "port": 9000}]}`)
	if r := a.must("POST", "/api/v1/config/revisions/1/rollback", `{"dry_run": true}`); r.field("committed") != false || r.Meta.Revision != 2 {
		t.Errorf("a dry run: %s", r.raw)
	}
	a.must("POST", "/api/v1/config/revisions/1/rollback", `{"message": "back & forth", "allow_shrink": true}`)
	if r := a.must("GET", "/api/v1/config/revisions/3", ""); r.field("message") != "back & forth" {
		t.Errorf("the revision: %s", r.raw)
	}
}

// unread is a body that says when somebody begins to read it.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// TestNobodysBodyIsRead: who may call is known before a body is read.
func TestNobodysBodyIsRead(t *testing.T) {
	a := newAPI(t)
	req, err := http.NewRequestWithContext(t.Context(), "POST", a.url+"/api/v1/config/apply", unread{t})
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = 39 << 20
	req.Header.Set("Expect", "100-continue") // the body is sent when the server asks for it
	transport := &http.Transport{ExpectContinueTimeout: 1 << 40}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %d", res.StatusCode)
	}
	for _, value := range []string{"bearer " + token, "BEARER  " + token} {
		if r := a.call("GET", "/api/v1/config/routes", "", "Authorization", value); r.status != 200 {
			t.Errorf("%q: %d", value, r.status)
		}
	}
}

// TestTap: a gRPC call without the token ends before its message is there.
func TestTap(t *testing.T) {
	a := newAPI(t)
	conn, err := grpc.NewClient("passthrough:///"+a.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, adminv1.ConfigurationService_ApplyConfiguration_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing has been sent but the call's head.
	if err := stream.RecvMsg(new(adminv1.ApplyConfigurationResponse)); status.Code(err) != codes.Unauthenticated {
		t.Errorf("got %v", err)
	} else if d, ok := errorOf(err); !ok || d.GetCode() != "UNAUTHENTICATED" {
		t.Errorf("details: %v", d)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "bearer "+token)
	if _, err := adminv1.NewConfigurationServiceClient(conn).ListRevisions(ctx, &adminv1.ListRevisionsRequest{}); err != nil {
		t.Errorf("with the token: %v", err)
	}
}
