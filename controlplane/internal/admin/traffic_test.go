package admin

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/fleet"
	"gateway.internal/controlplane/internal/store/sql"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/fault"
)

// TestRevisionTraffic: what nodes have served by a revision is shown with the names that routes have now.
func TestRevisionTraffic(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/api/v1/config/services", users)
	id, _ := a.must("POST", "/api/v1/config/routes", `{"name":"r","path":"/r","service_id":"users"}`).field("id").(string)
	epoch := a.catalog.Current().Epoch
	n, err := a.server.fleet.Connect(&streamv1.Hello{NodeId: "n1", InstanceId: "i", Epoch: epoch, Revision: 2}, "")
	if err != nil {
		t.Fatal(err)
	}
	n.Report(&streamv1.Report{Revision: 2, Epoch: epoch, Routes: []*streamv1.RouteTraffic{
		{RouteId: id, Requests: 3, Errors: 1, DurationMicros: 6000, Revision: proto.Uint32(2)},
		{RouteId: "gone", Requests: 1, Revision: proto.Uint32(2)}}})
	r := a.must("GET", "/api/v1/config/revisions/2/traffic", "")
	routes, _ := r.field("routes").([]any)
	if r.field("error_ratio") != .25 || len(routes) != 2 || r.Meta.Revision != 2 {
		t.Fatalf("revision 2: %s", r.raw)
	}
	for i, want := range []string{"r", ""} {
		route, _ := routes[i].(map[string]any)
		if got := route["route"]; fmt.Sprint(got) != want && !(want == "" && got == nil) {
			t.Errorf("route %d is %v, want %q", i+1, got, want)
		}
	}
	if r := a.must("GET", "/api/v1/config/revisions/1/traffic", ""); fmt.Sprint(r.field("requests")) != "0" {
		t.Errorf("revision 1, which has served nothing: %s", r.raw)
	}
	if r := a.call("GET", "/api/v1/config/revisions/3/traffic", ""); r.Error.Code != string(fault.NotFound) {
		t.Errorf("a revision that there is not: %s", r.raw)
	}
}

// TestRevisionTrafficBeforeTheStoreIsThere is not "not found": the revision may well be there.
func TestRevisionTrafficBeforeTheStoreIsThere(t *testing.T) {
	registry, log := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	store, err := sql.Open(t.Context(), "embedded:"+filepath.Join(t.TempDir(), "g.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	s := New(catalog.New(store, log), store, fleet.New(registry), token, log, registry) // it has read nothing yet
	_, err = nodes{Server: s}.GetRevisionTraffic(t.Context(), &adminv1.GetRevisionTrafficRequest{Number: 1})
	if d, ok := errorOf(err); !ok || d.GetCode() != string(fault.StoreUnavailable) {
		t.Errorf("%v", err)
	}
}
