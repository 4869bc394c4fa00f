package admin

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"gateway.internal/controlplane/internal/access"
)

type methodDescriptor = protoreflect.MethodDescriptor

// methods calls f for every call of the admin API.
func methods(f func(service, method string, m methodDescriptor)) {
	protoregistry.GlobalFiles.RangeFilesByPackage("gateway.admin.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				f(string(service.Name()), string(service.Methods().Get(j).Name()), service.Methods().Get(j))
			}
		}
		return true
	})
}

// TestEveryCallHasARole: the table names every call, and no other.
func TestEveryCallHasARole(t *testing.T) {
	said, n := permissions(), 0
	methods(func(service, method string, _ protoreflect.MethodDescriptor) {
		n++
		if said[service][method] == 0 {
			t.Errorf("permissions does not say which role %s/%s takes", service, method)
		}
		delete(said[service], method)
	})
	if n < 50 {
		t.Errorf("there are %d calls", n)
	}
	for service, rest := range said {
		if len(rest) > 0 {
			t.Errorf("permissions names calls of %s that are not there: %v", service, slices.Collect(maps.Keys(rest)))
		}
	}
	a := &Server{permissions: permissions()}
	if got := a.needs("/gateway.admin.v1.NewService/ReadAll"); got != access.Admin {
		t.Errorf("a call that is not in the table takes the role %s", got)
	}
}

// tokenFor makes a token, and returns its text.
func (a *api1) tokenFor(what string) string {
	a.t.Helper()
	text, _ := a.must("POST", "/api/v1/tokens", what).field("token").(string)
	if !access.IsToken(text) {
		a.t.Fatalf("%q is no token", text)
	}
	return text
}

// invoke makes a call over gRPC with an empty message, whichever it is.
func (a *api1) invoke(conn *grpc.ClientConn, token string, m protoreflect.MethodDescriptor) error {
	ctx := metadata.AppendToOutgoingContext(a.t.Context(), "authorization", "Bearer "+token)
	name := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
	in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if !m.IsStreamingServer() {
		return conn.Invoke(ctx, name, in, out)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, name)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(in); err != nil {
		return stream.RecvMsg(out) // which says why
	}
	return stream.RecvMsg(out)
}

func (a *api1) dial() *grpc.ClientConn {
	a.t.Helper()
	conn, err := grpc.NewClient(a.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestStolenTokens: whoever has a token can make, by gRPC and by REST, the calls that its role allows, and of all
// others none, whatever is in them. What there is stays as it is.
func TestStolenTokens(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/api/v1/config/apply", all)
	conn := a.dial()
	tokens := map[access.Role]string{}
	for _, name := range access.Roles() {
		role, _ := access.ParseRole(name)
		tokens[role] = a.tokenFor(fmt.Sprintf(`{"name": "the-%s", "role": %q}`, name, name))
	}
	before := a.must("GET", "/api/v1/config/revisions", "").Meta.Revision
	said := permissions()
	for role, token := range tokens {
		methods(func(service, method string, m methodDescriptor) {
			need := said[service][method]
			if role >= need && need > access.Viewer {
				return // it would do something
			}
			refused := status.Code(a.invoke(conn, token, m)) == codes.PermissionDenied
			if refused != (role < need) {
				t.Errorf("gRPC: %s/%s, which takes %s, is refused to %s: %t", service, method, need, role, refused)
			}
		})
	}
	described, err := served()
	if err != nil {
		t.Fatal(err)
	}
	reads := []string{"/config/validate", "/config/diff"} // by POST
	paths, _ := described.at("paths").(map[string]any)
	for path, calls := range paths {
		for method := range calls.(map[string]any) {
			if path == "/api/v1/session" { // everybody's own
				continue
			}
			if method == "get" || slices.ContainsFunc(reads, func(end string) bool { return strings.HasSuffix(path, end) }) {
				continue
			}
			real := strings.NewReplacer("{id}", "users", "{number}", "1", "{service}", "users", "{host}", "127.0.0.1",
				"{port}", "9000", "{endpoint_id}", "127.0.0.1:9000").Replace(path)
			r := a.call(strings.ToUpper(method), real, "{}", "Authorization", "Bearer "+tokens[access.Viewer])
			if r.status != http.StatusForbidden || r.Error.Code != "FORBIDDEN" {
				t.Errorf("REST: %s %s is answered to a viewer with %d %s", method, real, r.status, r.raw)
			}
		}
	}
	for _, path := range []string{"/config/export", "/config/routes", "/nodes", "/whoami", "/health/circuit-breakers"} {
		if r := a.call("GET", "/api/v1"+path, "", "Authorization", "Bearer "+tokens[access.Viewer]); r.status != 200 {
			t.Errorf("a viewer reads %s: %d %s", path, r.status, r.raw)
		}
	}
	if now := a.must("GET", "/api/v1/config/revisions", "").Meta.Revision; now != before {
		t.Errorf("the revision was %d and is %d", before, now)
	}
}

// TestRESTSaysNothingForOthers: what a client of gRPC or REST says for itself is no caller whom REST has let in.
func TestRESTSaysNothingForOthers(t *testing.T) {
	a := newAPI(t)
	a.server.restCalls.Store("known", caller{identity: &access.Identity{Name: "x", Role: access.Admin}})
	ctx := metadata.AppendToOutgoingContext(t.Context(), restCall, "known")
	if err := a.dial().Invoke(ctx, "/gateway.admin.v1.FleetService/ListNodes", dynamicpb.NewMessage(inputOf("ListNodes")),
		dynamicpb.NewMessage(inputOf("ListNodes"))); status.Code(err) != codes.Unauthenticated {
		t.Errorf("gRPC: %v", err)
	}
	for _, header := range []string{"Grpc-Metadata-Gateway-Rest-Call", "Gateway-Rest-Call"} {
		viewer := a.tokenFor(fmt.Sprintf(`{"name": "v-%d", "role": "viewer"}`, len(header)))
		r := a.call("POST", "/api/v1/config/services", users, "Authorization", "Bearer "+viewer, header, "known",
			"Grpc-Metadata-Authorization", "Bearer "+token)
		if r.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", header, r.status, r.raw)
		}
	}
}

func inputOf(name string) (d protoreflect.MessageDescriptor) {
	methods(func(_, method string, m protoreflect.MethodDescriptor) {
		if method == name {
			d = m.Input()
		}
	})
	return d
}
