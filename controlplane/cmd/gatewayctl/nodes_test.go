package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"gateway.internal/controlplane/internal/cli"
	"gateway.internal/controlplane/internal/fleet"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

func TestNodes(t *testing.T) {
	nodes := serve(t)
	const n = 2 * 1000 // two pages, and one that is empty
	for i := range n {
		h := &streamv1.Hello{NodeId: fmt.Sprintf("edge-%04d", i), InstanceId: "1", Host: fmt.Sprintf("host-%d.test",
			i), Group: "blue", Labels: map[string]string{"zone": "b", "rack": "7"}}
		if i == n-1 {
			h.Group, h.Labels = "", nil
		}
		if _, err := nodes.Connect(h, "127.0.0.1:1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args        string
		first, last string
		rows        int
	}{
		{"nodes", "edge-0000", "edge-1999", n},
		{"nodes --page 2 --per-page 3", "edge-0003", "edge-0005", 3},
		{"nodes --page 20", "edge-1900", "edge-1999", 100},
		{"nodes --group blue", "edge-0000", "edge-1998", n - 1},
		{"nodes -l zone=b -l rack", "edge-0000", "edge-1998", n - 1},
		{"nodes edge-1999", "edge-1999", "edge-1999", 1},
	} {
		out, complaint, code := gatewayctl(t, "", strings.Fields(c.args)...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if code != 0 || len(lines) != c.rows+1 || !strings.HasPrefix(lines[1], c.first+" ") ||
			!strings.HasPrefix(lines[c.rows], c.last+" ") {
			t.Errorf("%s: exit %d, %d lines, %.200s%s", c.args, code, len(lines), out, complaint)
		}
	}
	out, _, _ := gatewayctl(t, "", "nodes", "edge-0007")
	heading, row, _ := strings.Cut(out, "\n")
	for _, want := range []struct{ column, cell string }{{"HOST", "host-7.test"}, {"GROUP", "blue"}, {"LABELS",
		"rack=7,zone=b"}, {"STATE", "connected"}} {
		if at := strings.Index(heading, want.column); at < 0 || !strings.HasPrefix(row[at:], want.cell+" ") {
			t.Errorf("no %s under %s:\n%s", want.cell, want.column, out)
		}
	}
}

// TestDegradedNodes: the list says of a node what does not work.
func TestDegradedNodes(t *testing.T) {
	nodes := serve(t)
	problems := []*streamv1.Problem{{Kind: "route", Name: "r", Field: "field 9"}, {Reason: "the disk is full"}}
	for id, list := range map[string][]*streamv1.Problem{"one": problems[:1], "other": problems[1:], "two": problems} {
		h := &streamv1.Hello{NodeId: id, InstanceId: "1", Degradation: &streamv1.Degradation{Problems: list}}
		if _, err := nodes.Connect(h, "127.0.0.1:1"); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[string]string{"one": "degraded (route r field 9) ", "other": "degraded ",
		"two": "degraded (route r field 9 and 1 more) "} {
		out, _, _ := gatewayctl(t, "", "nodes", id)
		heading, row, _ := strings.Cut(out, "\n")
		if at := strings.Index(heading, "STATE"); at < 0 || !strings.HasPrefix(row[at:], want) {
			t.Errorf("no %q:\n%s", want, out)
		}
	}
}

func TestWrongPort(t *testing.T) {
	rest := httptest.NewServer(http.NotFoundHandler())
	defer rest.Close()
	both := httptest.NewUnstartedServer(http.NotFoundHandler())
	both.Config.Protocols = new(http.Protocols)
	both.Config.Protocols.SetHTTP1(true)
	both.Config.Protocols.SetUnencryptedHTTP2(true)
	both.Start()
	defer both.Close()
	streams := httptest.NewUnstartedServer(grpc.NewServer())
	streams.Config.Protocols = both.Config.Protocols
	streams.Start()
	defer streams.Close()
	t.Setenv("GATEWAYCTL_TOKEN", token)
	for _, c := range []struct{ name, server, want string }{
		{"REST", rest.Listener.Addr().String(), "speaks HTTP but not gRPC"},
		{"REST with HTTP/2", both.Listener.Addr().String(), "speaks HTTP but not gRPC"},
		{"a URL", rest.URL, "is a URL, as for REST"},
		{"the nodes' stream", streams.Listener.Addr().String(), "has no admin API"},
	} {
		_, complaint, code := gatewayctl(t, "", "get", "routes", "--server", c.server)
		if code == 0 || !strings.Contains(complaint, c.want) || !strings.Contains(complaint, cli.DefaultPort) {
			t.Errorf("%s: exit %d, %s", c.name, code, complaint)
		}
	}
}

// TestNodeShowsWhatItServed, by revision, the newest first whenever it was reported last, and its target.
func TestNodeShowsWhatItServed(t *testing.T) {
	nodes := serve(t)
	s, err := nodes.Connect(&streamv1.Hello{NodeId: "edge", InstanceId: "i", Epoch: "e", Revision: 2}, "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	s.Report(&streamv1.Report{Revision: 2, Epoch: "e", Routes: []*streamv1.RouteTraffic{
		{RouteId: "a", Requests: 40, Errors: 1, DurationMicros: 80_000, Revision: proto.Uint32(2)},
		{RouteId: "a", Requests: 9, Revision: proto.Uint32(1)}, {Requests: 3, Errors: 3, Revision: proto.Uint32(0)}}})
	s.Report(&streamv1.Report{Revision: 2, Epoch: "e", Routes: []*streamv1.RouteTraffic{
		{RouteId: "a", Requests: 1, Revision: proto.Uint32(1)}}}) // which ended late
	target := fleet.Target{Epoch: "e", Revision: 1}
	nodes.Aim("edge", target)
	if out, _, _ := gatewayctl(t, "", "nodes", "edge"); !strings.Contains(out, "\nIt is to run revision 1.\n") {
		t.Errorf("its target is not in:\n%s", out)
	}
	s.TargetProblem(target, errors.New("it is\x1b[2J gone"))
	out, _, _ := gatewayctl(t, "", "nodes", "edge")
	left := out
	for _, want := range []string{
		"to run revision 1. It can't be given that: it is", "gone\n", "SERVED BY REVISION", "\n2 ", " 40 ", "2.50%", "2.0ms",
		"\n1 ", " 10 ", "\nnone: before the first ", " 3 ", "100.00%",
	} {
		_, after, found := strings.Cut(left, want)
		if !found {
			t.Fatalf("%q does not come, or not in its turn, in:\n%s", want, out)
		}
		left = after
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("control characters reach the terminal: %q", out)
	}
	if out, _, _ := gatewayctl(t, "", "nodes"); strings.Contains(out, "SERVED") {
		t.Errorf("the list shows it too:\n%s", out)
	}
}
