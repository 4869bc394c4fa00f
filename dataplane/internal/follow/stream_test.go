package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/join"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConversation(t *testing.T) {
	play(t, t.TempDir(), Settings{NodeID: "n1", Group: "g", Build: "b", Labels: map[string]string{"k": "v"}}, func(s *scene) {
		src := &source{t: t, config: config.Empty()}
		p, h := s.hello()
		if h.GetNodeId() != "n1" || h.GetGroup() != "g" || h.GetBuild() != "b" || h.GetLabels()["k"] != "v" || h.GetRevision() != 0 || h.GetInstanceId() == "" || h.GetStartedAt() == nil {
			t.Errorf("hello %v", h)
		}
		first := h.GetInstanceId()
		parts := chunks(src.change(true, route("a"), route("b"), route("c")))
		p.down <- parts[0]
		p.end <- io.EOF // half a snapshot is nothing
		p, h = s.hello()
		if h.GetRevision() != 0 || s.node.version.Config != nil || h.GetInstanceId() != first {
			t.Errorf("hello %v after half a snapshot", h)
		}
		applied(t, p.answer(chunks(src.change(true))...))
		applied(t, p.answer(src.change(false, route("d"))))
		p.end <- status.Error(codes.Unavailable, "gone")
		p, h = s.hello()
		if hash := src.config.Hash(); h.GetRevision() != src.revision || h.GetEpoch() != "e" || string(h.GetHash()) != string(hash[:]) {
			t.Errorf("hello %v", h)
		}
		applied(t, p.answer(src.change(false, route("e"))))
		if s.node.version.Config.Hash() != src.config.Hash() {
			t.Error("another content")
		}
	})
}

// TestAFullSnapshotIsAskedFor gives the node what does not fit: it comes again without a revision.
func TestAFullSnapshotIsAskedFor(t *testing.T) {
	endpoints := func(base, version uint64) *streamv1.StreamResponse {
		return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: &streamv1.EndpointsUpdate{Version: version, BaseVersion: base, Chunk: 1, Chunks: 1}}}
	}
	for what, spoil := range map[string]func(src *source) *streamv1.StreamResponse{
		"another base": func(src *source) *streamv1.StreamResponse {
			src.change(false, route("missed"))
			return src.change(false, route("x"))
		},
		"another hash": func(src *source) *streamv1.StreamResponse {
			m := src.change(false, route("x"))
			m.GetUpdate().Hash = make([]byte, 32)
			return m
		},
		"a removal of nothing": func(src *source) *streamv1.StreamResponse {
			m := src.change(false, route("x"))
			m.GetUpdate().Removals = []*streamv1.ResourceRef{{Kind: streamv1.Kind_KIND_ROUTE, Id: "no"}}
			return m
		},
		"a delta of another epoch": func(src *source) *streamv1.StreamResponse {
			m := src.change(false, route("x"))
			m.GetUpdate().Epoch = "f"
			return m
		},
		"another base of endpoints": func(*source) *streamv1.StreamResponse { return endpoints(7, 8) },
	} {
		play(t, t.TempDir(), Settings{}, func(s *scene) {
			src := &source{t: t, config: config.Empty()}
			p, _ := s.hello()
			applied(t, p.answer(src.change(true, route("a"))))
			p.down <- spoil(src)
			p, h := s.hello()
			// What it runs is said, since what is on the way from there to the newest may be allowed to shrink.
			if h.GetRevision() != 1 || h.GetEpoch() != "e" || h.GetHash() != nil || h.GetEndpointsHash() != nil ||
				h.GetEndpointsVersion() != 0 || s.node.version.Revision != 1 {
				t.Errorf("%s: hello %v", what, h)
			}
			applied(t, p.answer(src.change(true)))
			p.end <- io.EOF
			if _, h := s.hello(); h.GetRevision() != src.revision || s.node.version.Config.Hash() != src.config.Hash() {
				t.Errorf("%s: hello %v", what, h)
			}
		})
	}
}

func TestChunksThatDoNotFollow(t *testing.T) {
	src := &source{t: t, config: config.Empty()}
	whole := src.change(true, route("a"), route("b"), route("c"))
	other := src.change(true, route("d"))
	for what, order := range map[string][]*streamv1.StreamResponse{
		"a later one first":     {chunks(whole)[1]},
		"one missing":           {chunks(whole)[0], chunks(whole)[2]},
		"one twice":             {chunks(whole)[0], chunks(whole)[1], chunks(whole)[1]},
		"of another revision":   {chunks(whole)[0], chunks(other)[1]},
		"of endpoints, missing": {endpointChunk(1, 3), endpointChunk(3, 3)},
		"of endpoints, later":   {endpointChunk(2, 3)},
	} {
		var g gather
		for i, m := range order {
			got, err := g.add(m)
			if (err != nil) != (i == len(order)-1) || got != nil {
				t.Errorf("%s: %v, %v at %d", what, got, err, i)
			}
		}
	}
	var g gather
	for _, m := range []*streamv1.StreamResponse{chunks(whole)[0], endpointChunk(1, 2), chunks(whole)[0], {}, chunks(whole)[1]} { // started anew, with endpoints between
		if got, err := g.add(m); got != nil || err != nil {
			t.Fatal(got, err)
		}
	}
	if got, err := g.add(chunks(whole)[2]); err != nil || !proto.Equal(got, whole) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := g.add(endpointChunk(2, 2)); err != nil || len(got.GetEndpoints().GetUpserts()) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
}

func endpointChunk(n, of uint32) *streamv1.StreamResponse {
	return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: &streamv1.EndpointsUpdate{
		Version: 1, Chunk: n, Chunks: of, Upserts: []*streamv1.ServiceEndpoints{{ServiceId: fmt.Sprint("s", n)}},
	}}}
}

// TestReports counts requests: what a broken stream did not take comes with the next report, over the whole time.
func TestReports(t *testing.T) {
	play(t, t.TempDir(), Settings{}, func(s *scene) {
		p, _ := s.hello()
		report := func() *streamv1.Report {
			for {
				if r := (<-p.up).GetReport(); r != nil {
					return r
				}
			}
		}
		s.node.requests(5)
		if r := report(); r.GetRoutes()[0].GetRequests() != 5 || r.GetIntervalMicros() != 2e6 || len(r.GetEndpoints()) != 1 {
			t.Errorf("the first report %v", r)
		}
		s.node.requests(7)
		if r := report(); r.GetRoutes()[0].GetRequests() != 7 || len(r.GetEndpoints()) != 0 {
			t.Errorf("the second report %v", r)
		}
		s.node.requests(3)
		last := time.Now()
		p.end <- io.EOF
		p, _ = s.hello()
		if r := report(); r.GetRoutes()[0].GetRequests() != 3 || r.GetIntervalMicros() != uint64(time.Since(last).Microseconds()) || len(r.GetEndpoints()) != 1 {
			t.Errorf("the report after a broken stream %v", r)
		}
	})
}

// manyRoutes is a node whose reports are sent in parts, of a route each.
type manyRoutes struct {
	nodeDouble
	sent []int
}

func (n *manyRoutes) Report(bool) (*streamv1.Report, func(int)) {
	r := &streamv1.Report{}
	for i := range 3 {
		r.Routes = append(r.Routes, &streamv1.RouteTraffic{RouteId: strings.Repeat(fmt.Sprint(i), maxReportBytes*2/3)})
	}
	return r, func(sent int) { n.sent = append(n.sent, sent) }
}

// tearing is a stream that takes a number of messages.
type tearing struct {
	stream
	left int
}

func (s *tearing) Send(*streamv1.StreamRequest) error {
	if s.left--; s.left < 0 {
		return errors.New("torn")
	}
	return nil
}

// TestPartsOfReportsAreSentOnce: the control plane counts each part when it comes.
func TestPartsOfReportsAreSentOnce(t *testing.T) {
	f, _ := follower(t, t.TempDir())
	n := &manyRoutes{}
	f.node = n
	since := f.reported
	if err := f.report(&tearing{left: 2}, false); err == nil || f.reported != since {
		t.Errorf("a report that was torn: %v", err)
	}
	if err := f.report(&tearing{left: 3}, false); err != nil || f.reported.Equal(since) {
		t.Errorf("a whole report: %v", err)
	}
	if want := []int{1, 2, 1, 2, 3}; !slices.Equal(n.sent, want) {
		t.Errorf("committed %v, want %v", n.sent, want)
	}
}

func TestLargeReportsAreSplit(t *testing.T) {
	r := &streamv1.Report{Revision: 3, IntervalMicros: 4, ActiveConnections: 5}
	for i := range 500 {
		r.Routes = append(r.Routes, &streamv1.RouteTraffic{RouteId: fmt.Sprint("route", i), Requests: uint64(i)})
		r.Endpoints = append(r.Endpoints, &streamv1.EndpointHealth{ServiceId: fmt.Sprint("service", i)})
	}
	if parts := split(r, 1<<20); len(parts) != 1 || parts[0] != r {
		t.Error("a small report is split")
	}
	sum := &streamv1.Report{Revision: 3, IntervalMicros: 4, ActiveConnections: 5}
	parts := split(r, 1000)
	for i, p := range parts {
		if n := proto.Size(p); n > 1100 || len(p.GetRoutes()) > 0 && len(p.GetEndpoints()) > 0 || p.GetRevision() != 3 {
			t.Fatalf("part %d has %d bytes: %v", i, n, p)
		}
		sum.Routes = append(sum.Routes, p.GetRoutes()...)
		sum.Endpoints = append(sum.Endpoints, p.GetEndpoints()...)
	}
	if !proto.Equal(sum, r) || len(parts[len(parts)-1].GetRoutes()) == 0 {
		t.Errorf("%d parts are not the whole", len(parts))
	}
}

// TestBackoff has no control plane for ten minutes: the waits double up to their bound, and the addresses take turns.
func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		err   error
		limit time.Duration
		text  string
	}{
		{status.Error(codes.Unavailable, "connection refused"), maxBackoff, "no control plane; the node goes on with what it has"},
		{status.Error(codes.Unauthenticated, "wrong token"), maxRefused, "GATEWAY_JOIN_TOKEN"},
		{status.Error(codes.AlreadyExists, "the id is in use"), maxRefused, "--node-id"},
		{io.EOF, maxBackoff, "the control plane ended the stream"},
		{errors.New("receive: chunks"), maxBackoff, "receive: chunks"},
	} {
		playRefused(t, t.TempDir(), Settings{Addresses: []string{"one", "two"}}, c.err, func(s *scene) {
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			dialled := s.control(nil)
			var waits []time.Duration
			for i, d := range dialled {
				if want := []string{"one", "two"}[i%2]; d.address != want {
					t.Fatalf("dialled %v", dialled)
				}
				if i > 0 {
					waits = append(waits, d.at.Sub(dialled[i-1].at))
				}
			}
			if first := waits[0]; first < minBackoff || first > 2*minBackoff {
				t.Errorf("the first wait is %s", first)
			}
			for _, w := range waits[8:] {
				if w < c.limit/2 || w > c.limit {
					t.Errorf("a wait of %s", w)
				}
			}
			if slices.Min(waits[8:]) == slices.Max(waits[8:]) {
				t.Error("waits are not jittered")
			}
			if n := s.log.count(c.text); n != 2 {
				t.Errorf("%d lines for two addresses:\n%s", n, s.log.b.String())
			}
			// It comes back, stays for a while and goes: that is told, and the waits are short again.
			p, _ := s.hello()
			for range 8 {
				<-p.up
			}
			s.control(c.err)
			begun := time.Now()
			p.end <- c.err
			time.Sleep(time.Second)
			synctest.Wait()
			if d := s.control(nil); len(d) == 0 || d[0].at.Sub(begun) > 2*minBackoff {
				t.Errorf("dialled %v after %v", d, begun)
			}
			if s.log.count("following the control plane") != 1 || s.log.count(c.text) != 3 {
				t.Errorf("the log:\n%s", s.log.b.String())
			}
		})
	}
}

// TestDegraded has a disk that can't be written for a while: the node says so, and writes when it can, without a
// change.
func TestDegraded(t *testing.T) {
	dir := t.TempDir()
	src := &source{t: t, config: config.Empty()}
	play(t, dir, Settings{}, func(s *scene) {
		p, _ := s.hello()
		applied(t, p.answer(src.change(true, route("a"))))
		broken := breakDisk(t, dir)
		if r := p.answer(src.change(true, route("b"))); r.GetOutcome() != streamv1.Result_OUTCOME_DEGRADED || r.GetProblems()[0].GetReason() == "" || s.node.version.Revision != 2 {
			t.Errorf("got %v", r)
		}
		for range 10 {
			<-p.up // reports, and attempts
		}
		broken()
		var told []*streamv1.Degradation
		for range 10 {
			if d := (<-p.up).GetReport().GetDegradation(); d != nil {
				told = append(told, d)
			}
		}
		if len(told) != 1 || len(told[0].GetProblems()) > 0 {
			t.Errorf("reported %v, once it was on disk", told)
		}
		if s.log.count("is on disk again") != 1 {
			t.Errorf("the log:\n%s", s.log.b.String())
		}
	})
	if _, n := follower(t, dir); n.version.Revision != 2 || n.version.Config.Hash() != src.config.Hash() {
		t.Errorf("restarted with revision %d", n.version.Revision)
	}
}

// control is a control plane on a real port.
type control struct {
	streamv1.UnimplementedSnapshotServiceServer
	streams chan *served
}

type served struct {
	grpc.BidiStreamingServer[streamv1.StreamRequest, streamv1.StreamResponse]
	end chan error
}

func (c *control) Stream(s grpc.BidiStreamingServer[streamv1.StreamRequest, streamv1.StreamResponse]) error {
	if md, _ := metadata.FromIncomingContext(s.Context()); len(md.Get("authorization")) != 1 || md.Get("authorization")[0] != "Bearer secret" {
		return status.Error(codes.Unauthenticated, "wrong token")
	}
	v := &served{s, make(chan error)}
	select {
	case c.streams <- v:
	case <-s.Context().Done():
		return s.Context().Err()
	}
	select {
	case err := <-v.end:
		return err
	case <-s.Context().Done():
		return s.Context().Err()
	}
}

func (s *served) request(t *testing.T) *streamv1.StreamRequest {
	t.Helper()
	m, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestRealStream goes over gRPC and loopback: a first address where nobody listens, a snapshot, a break and what is new
// after it.
func TestRealStream(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	c := &control{streams: make(chan *served)}
	g := grpc.NewServer()
	streamv1.RegisterSnapshotServiceServer(g, c)
	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(ln) })
	defer serving.Wait()
	defer g.Stop()
	log, n := &logged{}, &nodeDouble{}
	f, err := NewFollower(Settings{
		Addresses: []string{nobody.Addr().String(), ln.Addr().String()}, DataDir: t.TempDir(),
		Join: join.Settings{Token: &identity.Token{Static: "secret"}, Plaintext: true},
	}, log.logger(), n)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	defer running.Wait()
	defer cancel()

	src := &source{t: t, config: config.Empty()}
	s := <-c.streams
	if h := s.request(t).GetHello(); h.GetNodeId() != f.NodeID() || h.GetRevision() != 0 {
		t.Errorf("hello %v", h)
	}
	for _, m := range chunks(src.change(true, route("a"), route("b"))) {
		if err := s.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	applied(t, s.request(t).GetResult())
	s.end <- status.Error(codes.Unavailable, "stopping")
	s = <-c.streams
	if h := s.request(t).GetHello(); h.GetRevision() != 1 {
		t.Errorf("hello %v", h)
	}
	if err := s.Send(src.change(false, route("c"))); err != nil {
		t.Fatal(err)
	}
	applied(t, s.request(t).GetResult())
	if r := s.request(t).GetReport(); r == nil {
		t.Error("no report")
	}
	if n.runs() != src.config.Hash() {
		t.Error("another content")
	}
}

func TestNodeIDs(t *testing.T) {
	for id, good := range map[string]bool{"n-1": true, "münchen": true, "a b": false, "a\n": false, "\xff": false, string(make([]byte, 129)): false} {
		f, err := NewFollower(Settings{NodeID: id, DataDir: t.TempDir()}, (&logged{}).logger(), &nodeDouble{})
		if (err == nil) != good {
			t.Errorf("%q: %v", id, err)
		}
		if f != nil {
			f.disk.close()
		}
	}
}
