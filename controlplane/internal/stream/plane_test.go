package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"gateway.internal/controlplane/internal/authority"
	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/discovery"
	"gateway.internal/controlplane/internal/fleet"
	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/internal/store/sql"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

const token = "a-join-token-for-tests"

type plane struct {
	t       *testing.T
	store   store.Store
	catalog *catalog.Catalog
	fleet   *fleet.Fleet
	gate    *authority.Authority
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

// startPlane starts a control plane on a store, until stop is called or the test ends. Its nodes come in plain
// text, and
// are who they say they are.
func startPlane(t *testing.T, s store.Store, sources ...discovery.Source) *plane {
	t.Helper()
	return startPlaneWith(t, s, authority.Settings{StaticToken: token, Plaintext: true, NodeTTL: time.Hour}, sources...)
}

// startPlaneWith is startPlane with other ways to let nodes in.
func startPlaneWith(t *testing.T, s store.Store, admission authority.Settings, sources ...discovery.Source) *plane {
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
	p.gate = authority.New(admission, s, log, prometheus.NewRegistry())
	running.Go(func() { _ = p.gate.Run(ctx) })
	p.server = New(p.catalog, p.fleet, p.gate, log)
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
	c, err := p.catalog.Commit(p.t.Context(), catalog.CommitRequest{AllowShrink: true,
		Edits: func(*catalog.Version) ([]config.Edit, error) { return edits, nil }})
	if err != nil {
		p.t.Fatal(err)
	}
	return c.Version
}

func route(name string) config.Edit {
	return config.Edit{Kind: config.Route, Put: &configv1.Route{Name: name, Path: "/" + name,
		DirectResponse: &configv1.DirectResponse{Body: name}}}
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
	ctx, cancel := context.WithCancel(
		metadata.AppendToOutgoingContext(context.Background(), "authorization", "bearer "+token))
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
		entries = append(entries, n.decode(u.GetUpserts())...)
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

// decode reads resources.
func (n *node) decode(resources []*streamv1.Resource) (entries []*config.Entry) {
	n.t.Helper()
	for _, r := range resources {
		e, err := config.Decode(r)
		if err != nil {
			n.t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

func (n *node) answer(u *streamv1.Update, o streamv1.Result_Outcome, problems ...*streamv1.Problem) {
	n.t.Helper()
	n.send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Result{Result: &streamv1.Result{
		Outcome: o, Revision: u.GetRevision(), Epoch: u.GetEpoch(), Problems: problems}}})
}

func (n *node) follow(to uint32) {
	n.t.Helper()
	for n.revision < to {
		n.answer(n.receive(), streamv1.Result_OUTCOME_APPLIED)
	}
}
