package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/discovery"
	"gateway.internal/controlplane/internal/fleet"
	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/internal/store/sql"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "a-join-token-for-tests"

type plane struct {
	t       *testing.T
	store   store.Store
	catalog *catalog.Catalog
	fleet   *fleet.Fleet
	server  *Server
	address string
	stop    func()
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s, err := sql.Open(t.Context(), "embedded:"+filepath.Join(t.TempDir(), "g.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return startPlane(t, s)
}

// startPlane starts a control plane on a store, until stop is called or the test ends.
func startPlane(t *testing.T, s store.Store, sources ...discovery.Source) *plane {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	p := &plane{t: t, store: s, catalog: catalog.New(s, log), fleet: fleet.New(prometheus.NewRegistry())}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.catalog.Run(ctx) })
	if len(sources) > 0 {
		running.Go(func() { _ = discovery.Run(ctx, p.catalog, s, sources, prometheus.NewRegistry(), log) })
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = ln.Addr().String()
	p.server = New(p.catalog, p.fleet, token, log)
	g := p.server.GRPC()
	running.Go(func() { _ = g.Serve(ln) })
	p.stop = sync.OnceFunc(func() {
		p.server.Stop()
		g.GracefulStop()
		cancel()
		running.Wait()
	})
	t.Cleanup(p.stop)
	waittest.UntilNil(t, "catalog", func() error {
		if p.catalog.Current() == nil {
			return fmt.Errorf("not loaded")
		}
		return nil
	})
	return p
}

func (p *plane) commit(edits ...config.Edit) *catalog.Version {
	p.t.Helper()
	c, err := p.catalog.Commit(p.t.Context(), catalog.CommitRequest{AllowShrink: true, Edits: func(*catalog.Version) ([]config.Edit, error) { return edits, nil }})
	if err != nil {
		p.t.Fatal(err)
	}
	return c.Version
}

func route(name string) config.Edit {
	return config.Edit{Kind: config.Route, Put: &configv1.Route{Name: name, Path: "/" + name, DirectResponse: &configv1.DirectResponse{Body: name}}}
}

// node is what a data plane does, without doing anything with it.
type node struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[streamv1.StreamRequest, streamv1.StreamResponse]
	close  func()

	id       string
	epoch    string
	revision uint32
	config   *config.Config
	messages int
	full     int
}

func (n *node) connect(p *plane, token string) {
	n.t.Helper()
	n.connectAs(p, token, &streamv1.Hello{})
}

// connectAs opens a stream with what hello says besides.
func (n *node) connectAs(p *plane, token string, hello *streamv1.Hello) {
	n.t.Helper()
	conn, err := grpc.NewClient(p.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "authorization", "bearer "+token))
	n.close = func() {
		cancel()
		_ = conn.Close()
	}
	if n.stream, err = streamv1.NewSnapshotServiceClient(conn).Stream(ctx); err != nil {
		n.t.Fatal(err)
	}
	if n.config == nil {
		n.config = config.Empty()
	}
	hash := n.config.Hash()
	hello.NodeId, hello.InstanceId, hello.Epoch, hello.Revision, hello.Hash = n.id, fmt.Sprintf("%p", n), n.epoch,
		n.revision, hash[:]
	n.send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Hello{Hello: hello}})
}

func (n *node) send(m *streamv1.StreamRequest) {
	n.t.Helper()
	// io.EOF says that the server has ended the stream, and Recv why.
	if err := n.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		n.t.Fatal(err)
	}
}

// receive reads one whole update and applies it without answering.
func (n *node) receive() *streamv1.Update {
	n.t.Helper()
	var entries []*config.Entry
	var refs []*streamv1.ResourceRef
	for {
		m, err := n.stream.Recv()
		if err != nil {
			n.t.Fatal(err)
		}
		n.messages++
		u := m.GetUpdate()
		if u == nil {
			continue
		}
		for _, r := range u.GetUpserts() {
			e, err := config.Decode(r)
			if err != nil {
				n.t.Fatal(err)
			}
			entries = append(entries, e)
		}
		refs = append(refs, u.GetRemovals()...)
		if u.GetChunk() < u.GetChunks() {
			continue
		}
		base := n.config
		if u.GetBaseRevision() == 0 {
			n.full++
			base = config.Empty()
		} else if u.GetBaseRevision() != n.revision {
			n.t.Fatalf("delta from %d, but the node runs %d", u.GetBaseRevision(), n.revision)
		}
		next, err := base.WithEntries(entries, refs)
		if err != nil {
			n.t.Fatal(err)
		}
		if hash := next.Hash(); string(hash[:]) != string(u.GetHash()) {
			n.t.Fatalf("revision %d has another hash", u.GetRevision())
		}
		n.config, n.revision, n.epoch = next, u.GetRevision(), u.GetEpoch()
		return u
	}
}

func (n *node) answer(u *streamv1.Update, o streamv1.Result_Outcome, problems ...*streamv1.Problem) {
	n.t.Helper()
	n.send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Result{Result: &streamv1.Result{Outcome: o, Revision: u.GetRevision(), Epoch: u.GetEpoch(), Problems: problems}}})
}

func (n *node) follow(to uint32) {
	n.t.Helper()
	for n.revision < to {
		n.answer(n.receive(), streamv1.Result_OUTCOME_APPLIED)
	}
}

func TestFullThenDeltas(t *testing.T) {
	p := newPlane(t)
	var edits []config.Edit
	for i := range 2000 {
		edit := route(fmt.Sprint("r", i))
		edit.Put.(*configv1.Route).DirectResponse.Body = strings.Repeat("x", 1000)
		edits = append(edits, edit)
	}
	v := p.commit(edits...)
	n := &node{t: t, id: "n1"}
	n.connect(p, token)
	defer n.close()
	n.follow(v.Revision)
	if n.messages < 2 || n.full != 1 {
		t.Errorf("%d messages, %d full snapshots", n.messages, n.full)
	}
	n.messages = 0
	v = p.commit(route("one-more"), config.Edit{Kind: config.Route, Delete: "r0"})
	n.follow(v.Revision)
	if n.messages != 1 || n.full != 1 || n.config.Hash() != v.Config.Hash() {
		t.Errorf("a small change took %d messages, %d full snapshots", n.messages, n.full)
	}
	waittest.UntilNil(t, "the fleet's view", func() error {
		if nodes := p.fleet.Nodes(); len(nodes) != 1 || nodes[0].GetRevision() != v.Revision || !nodes[0].GetConnected() {
			return fmt.Errorf("%v", nodes)
		}
		return nil
	})
}

func TestResume(t *testing.T) {
	p := newPlane(t)
	v := p.commit(route("a"))
	n := &node{t: t, id: "n1"}
	n.connect(p, token)
	n.follow(v.Revision)
	n.close()
	v = p.commit(route("b"))
	n.connect(p, token)
	defer n.close()
	n.follow(v.Revision)
	if n.full != 1 {
		t.Errorf("%d full snapshots", n.full)
	}
}

// TestShrinkOverAGap: what a revision was allowed counts for whoever goes over it to a later one, by a delta or by a full snapshot.
func TestShrinkOverAGap(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("the node's revision is known: %t", known), func(t *testing.T) {
			p := newPlane(t)
			commit := func(allow bool, edits ...config.Edit) *catalog.Version {
				c, err := p.catalog.Commit(t.Context(), catalog.CommitRequest{AllowShrink: allow, Edits: func(*catalog.Version) ([]config.Edit, error) { return edits, nil }})
				if err != nil {
					t.Fatal(err)
				}
				return c.Version
			}
			var add, remove []config.Edit
			for i := range 20 {
				add = append(add, route(fmt.Sprint("r", i)))
				if i > 0 {
					remove = append(remove, config.Edit{Kind: config.Route, Delete: fmt.Sprint("r", i)})
				}
			}
			commit(false, add...)
			n := &node{t: t, id: "n1"}
			n.connect(p, token)
			if u := n.receive(); u.GetAllowShrink() {
				t.Error("the first revision allows what it was not allowed")
			}
			n.close()
			if !known {
				n.config = config.Empty() // another content than that revision has here
			}
			commit(true, remove...)
			v := commit(false, route("later"))
			n.connect(p, token)
			defer n.close()
			if u := n.receive(); !u.GetAllowShrink() || u.GetRevision() != v.Revision {
				t.Errorf("revision %d over one that was allowed to shrink: allow_shrink is %t", u.GetRevision(), u.GetAllowShrink())
			}
			n.answer(&streamv1.Update{Epoch: v.Epoch, Revision: v.Revision}, streamv1.Result_OUTCOME_APPLIED)
			next := commit(false, route("next"))
			if u := n.receive(); u.GetRevision() != next.Revision || u.GetAllowShrink() {
				t.Errorf("the next one, %d: allow_shrink is %t", u.GetRevision(), u.GetAllowShrink())
			}
		})
	}
}

// TestShrinkOverAnEpoch: a revision that may shrink lets nodes of a former epoch through, also when others follow it
// and when another control plane serves them. Those before the epoch began do not.
func TestShrinkOverAnEpoch(t *testing.T) {
	p := newPlane(t)
	commit := func(allow bool, name string) {
		t.Helper()
		edits := []config.Edit{route(name)}
		if _, err := p.catalog.Commit(t.Context(), catalog.CommitRequest{AllowShrink: allow,
			Edits: func(*catalog.Version) ([]config.Edit, error) { return edits, nil }}); err != nil {
			t.Fatal(err)
		}
	}
	allowed := func(c *catalog.Catalog, want bool) {
		t.Helper()
		if got := mayShrink("former", 7, c.Current()); got != want {
			t.Errorf("revision %d: may shrink: %t", c.Current().Revision, got)
		}
	}
	commit(true, "a")
	commit(false, "b")
	allowed(p.catalog, true)
	if err := p.store.BeginEpoch(t.Context(), p.catalog.Current().Epoch); err != nil {
		t.Fatal(err)
	}
	if err := p.catalog.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(false, "c")
	allowed(p.catalog, false)
	commit(true, "d")
	commit(false, "e")
	allowed(p.catalog, true)
	other := catalog.New(p.store, slog.New(slog.DiscardHandler))
	if err := other.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	allowed(other, true)

	n := &node{t: t, id: "n1", epoch: "former", revision: 7}
	n.connect(p, token)
	defer n.close()
	if u := n.receive(); !u.GetAllowShrink() || u.GetBaseRevision() != 0 {
		t.Errorf("revision %d from %d: allow_shrink is %t", u.GetRevision(), u.GetBaseRevision(), u.GetAllowShrink())
	}
}

func TestSlowNodeSkips(t *testing.T) {
	p := newPlane(t)
	n := &node{t: t, id: "n1"}
	v := p.commit(route("first"))
	n.connect(p, token)
	defer n.close()
	u := n.receive()
	for i := range 50 {
		v = p.commit(route(fmt.Sprint("r", i)))
	}
	n.messages = 0
	n.answer(u, streamv1.Result_OUTCOME_APPLIED)
	n.follow(v.Revision)
	if n.messages > 2 {
		t.Errorf("%d messages for 50 revisions", n.messages)
	}
}

func TestRejection(t *testing.T) {
	p := newPlane(t)
	v := p.commit(route("a"))
	n := &node{t: t, id: "n1"}
	n.connect(p, token)
	defer n.close()
	n.follow(v.Revision)
	kept, keptRevision := n.config, n.revision
	p.commit(route("bad"))
	u := n.receive()
	n.config, n.revision = kept, keptRevision
	n.answer(u, streamv1.Result_OUTCOME_REJECTED, &streamv1.Problem{Kind: "route", Name: "bad", Field: "path", Reason: "no"})
	waittest.UntilNil(t, "the rejection", func() error {
		r := p.fleet.Nodes()[0].GetLastRejection()
		if r.GetRevision() != u.GetRevision() || r.GetProblems()[0].GetName() != "bad" {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	v = p.commit(route("good"))
	n.follow(v.Revision) // a delta from what the node kept
	if n.config.Hash() != v.Config.Hash() {
		t.Error("another content")
	}
}

// TestStanding has nodes refuse a revision: each is told whether most of the fleet runs it, and again when that
// changes.
func TestStanding(t *testing.T) {
	p := newPlane(t)
	v := p.commit(route("a"))
	nodes := make([]*node, 3)
	for i := range nodes {
		nodes[i] = &node{t: t, id: fmt.Sprint("n", i)}
		nodes[i].connect(p, token)
		defer nodes[i].close()
		nodes[i].follow(v.Revision)
	}
	p.commit(route("bad"))
	refuse := func(n *node) {
		t.Helper()
		kept, keptRevision := n.config, n.revision
		u := n.receive()
		n.config, n.revision = kept, keptRevision
		n.answer(u, streamv1.Result_OUTCOME_REJECTED, &streamv1.Problem{Reason: "no"})
		waittest.Until(t, "the refusal", func() bool {
			all := p.fleet.Nodes()
			i := slices.IndexFunc(all, func(v *adminv1.Node) bool { return v.GetId() == n.id })
			return all[i].GetRefuses().GetRevision() == u.GetRevision()
		})
	}
	// told reports, as nodes do every two seconds, until the node is told something.
	told := func(n *node, want bool) {
		t.Helper()
		n.send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Report{Report: &streamv1.Report{}}})
		late := time.AfterFunc(waittest.Limit, n.close)
		defer late.Stop()
		m, err := n.stream.Recv()
		if s := m.GetStanding(); err != nil || s.GetRevision() != v.Revision+1 || s.GetOthersRun() != want {
			t.Fatalf("%s was told %v, %v; want %v", n.id, m, err, want)
		}
	}
	refuse(nodes[0])
	refuse(nodes[1])
	told(nodes[0], false)
	u := nodes[2].receive()
	nodes[2].answer(u, streamv1.Result_OUTCOME_APPLIED)
	waittest.Until(t, "the third node", func() bool { return p.fleet.Nodes()[2].GetRevision() == u.GetRevision() })
	told(nodes[1], false) // most refuse it
	nodes[1].close()
	waittest.Until(t, "the second node to be gone", func() bool { return !p.fleet.Nodes()[1].GetConnected() })
	// Two run it then and one refuses it, since one that has gone does not count.
	more := &node{t: t, id: "more"}
	more.connect(p, token)
	defer more.close()
	more.follow(v.Revision + 1)
	waittest.Until(t, "another node", func() bool {
		return len(p.fleet.Nodes()) == len(nodes)+1 && p.fleet.Nodes()[0].GetRevision() == v.Revision+1
	})
	told(nodes[0], true)
	v2 := p.commit(config.Edit{Kind: config.Route, Delete: "bad"})
	nodes[0].answer(nodes[0].receive(), streamv1.Result_OUTCOME_APPLIED)
	waittest.Until(t, "the first node to run what it is told", func() bool {
		for _, n := range p.fleet.Nodes() {
			if n.GetId() == "n0" {
				return n.GetRefuses() == nil && n.GetRevision() == v2.Revision
			}
		}
		return false
	})
}

func TestRefusals(t *testing.T) {
	p := newPlane(t)
	wrong := &node{t: t, id: "n1"}
	wrong.connect(p, "wrong")
	defer wrong.close()
	if _, err := wrong.stream.Recv(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a wrong token: %v", err)
	}
	p.commit(route("a"))
	first := &node{t: t, id: "n1"}
	first.connect(p, token)
	defer first.close()
	first.receive()
	second := &node{t: t, id: "n1"}
	second.connect(p, token)
	defer second.close()
	if _, err := second.stream.Recv(); status.Code(err) != codes.AlreadyExists {
		t.Errorf("the same id twice: %v", err)
	}
	if c := p.fleet.Nodes()[0].GetConflict(); c == nil || time.Since(c.GetAt().AsTime()) > time.Minute {
		t.Error("the conflict is not shown")
	}
	nobody := &node{t: t}
	nobody.connect(p, token)
	defer nobody.close()
	if _, err := nobody.stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no id: %v", err)
	}
}

func TestEndpointsTravelApart(t *testing.T) {
	p := newPlane(t)
	v := p.commit(route("a"))
	n := &node{t: t, id: "n1"}
	n.connect(p, token)
	defer n.close()
	n.follow(v.Revision)
	p.catalog.SetEndpoints("s1", []*configv1.Endpoint{{Host: "b", Port: 1}, {Host: "a", Port: 1}})
	m, err := n.stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	e := m.GetEndpoints()
	if len(e.GetUpserts()) != 1 || e.GetBaseVersion() != 0 || e.GetUpserts()[0].GetEndpoints()[0].GetHost() != "a" {
		t.Fatalf("got %v", m)
	}
	n.send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Result{Result: &streamv1.Result{Outcome: streamv1.Result_OUTCOME_APPLIED, EndpointsVersion: e.GetVersion()}}})
	p.catalog.RemoveEndpoints("s1")
	if m, err = n.stream.Recv(); err != nil || m.GetEndpoints().GetBaseVersion() != e.GetVersion() || len(m.GetEndpoints().GetRemovals()) != 1 {
		t.Fatalf("got %v, %v", m, err)
	}
}
