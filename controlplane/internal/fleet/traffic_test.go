package fleet

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

func connected(t *testing.T, f *Fleet, id string) *Session {
	t.Helper()
	s, err := f.Connect(&streamv1.Hello{NodeId: id, InstanceId: "i", Epoch: "e", Revision: 1}, "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func traffic1(revision uint32, route string, requests, errors uint64) *streamv1.RouteTraffic {
	return &streamv1.RouteTraffic{RouteId: route, Requests: requests, Errors: errors, DurationMicros: 2000 * requests,
		Revision: proto.Uint32(revision)}
}

// TestServed: what nodes report of a revision and a route adds up, for the revision and for each node. Nodes of builds
// that do not tell revisions count for what they run.
func TestServed(t *testing.T) {
	f := New(prometheus.NewRegistry())
	one, two, old := connected(t, f, "n1"), connected(t, f, "n2"), connected(t, f, "n3")
	one.Report(&streamv1.Report{Revision: 2, Epoch: "e", IntervalMicros: 2e6, Routes: []*streamv1.RouteTraffic{
		traffic1(1, "a", 10, 1), traffic1(2, "a", 4, 0), traffic1(2, "b", 6, 6)}})
	two.Report(&streamv1.Report{Revision: 1, Epoch: "e", Routes: []*streamv1.RouteTraffic{traffic1(1, "a", 5, 0),
		{RouteId: "a", Requests: 7, Revision: proto.Uint32(1), Epoch: "former"}}})
	old.Report(&streamv1.Report{Revision: 1, Routes: []*streamv1.RouteTraffic{{RouteId: "a", Requests: 3, Errors: 3}}})
	got := f.Served("e", 1)
	if got.GetRequests() != 18 || got.GetErrors() != 4 || len(got.GetRoutes()) != 1 ||
		got.GetRoutes()[0].GetRequests() != 18 {
		t.Errorf("revision 1: %v", got)
	}
	got = f.Served("e", 2)
	if got.GetErrorRatio() != .6 || got.GetMeanMs() != 2 || len(got.GetRoutes()) != 2 ||
		got.GetRoutes()[0].GetRouteId() != "b" {
		t.Errorf("revision 2: %v", got)
	}
	if f.Served("former", 1).GetRequests() != 7 || f.Served("e", 3).GetRequests() != 0 {
		t.Error("another epoch, or a revision that served nothing")
	}
	n := f.Nodes()[0]
	if len(n.GetServed()) != 2 || n.GetServed()[0].GetRevision() != 2 ||
		n.GetServed()[1].GetRequests() != 10 || n.GetRequestsPerSecond() != 10 {
		t.Errorf("n1: %v", n)
	}
}

// TestServedIsBounded: revisions and routes that were reported longest ago go first, and the sums stay.
func TestServedIsBounded(t *testing.T) {
	f := New(prometheus.NewRegistry())
	s := connected(t, f, "n1")
	for i := range uint32(2 * maxRevisions) {
		var routes []*streamv1.RouteTraffic
		for j := range maxRevisionRoutes / 4 {
			routes = append(routes, traffic1(i+1, fmt.Sprint(j), 1, 0))
		}
		s.Report(&streamv1.Report{Revision: i + 1, Epoch: "e", Routes: routes})
		if n := len(f.Nodes()[0].GetServed()); n > maxNodeRevisions {
			t.Fatalf("%d revisions of a node", n)
		}
	}
	count := 0
	for _, t := range f.served {
		count += len(t.routes)
	}
	if len(f.served) != maxRevisions || f.routes > maxRoutes || f.routes != count {
		t.Errorf("%d revisions with %d routes, counted as %d", len(f.served), count, f.routes)
	}
	var routes []*streamv1.RouteTraffic
	for j := range maxRevisionRoutes + 10 {
		routes = append(routes, traffic1(1000, fmt.Sprint(j), 1, 0))
	}
	s.Report(&streamv1.Report{Revision: 1000, Epoch: "e", Routes: routes})
	got := f.Served("e", 1000)
	if len(got.GetRoutes()) != maxRevisionRoutes || got.GetOtherRequests() != 10 ||
		got.GetRequests() != maxRevisionRoutes+10 {
		t.Errorf("%d routes, %d other requests of %d", len(got.GetRoutes()), got.GetOtherRequests(), got.GetRequests())
	}
}
