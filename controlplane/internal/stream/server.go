// Package stream brings revisions and endpoints to the nodes over gRPC. Every node has at most one update under way; when it has
// answered, it gets what leads from there to the newest version, so a slow node skips versions instead of queueing them. What
// is sent is made once for all nodes.
package stream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/fleet"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/nodeid"
)

const (
	helloTimeout = 10 * time.Second
	// maxFull bounds how many full snapshots are on their way at once, so that a fleet that reconnects does not ask for all of
	// the memory.
	maxFull = 16
	// maxMessageBytes is the largest message of a node.
	maxMessageBytes = 4 << 20
)

// Server implements streamv1.SnapshotServiceServer.
type Server struct {
	streamv1.UnimplementedSnapshotServiceServer

	catalog *catalog.Catalog
	fleet   *fleet.Fleet
	log     *slog.Logger
	token   [32]byte // SHA-256 of the join token
	stop    chan struct{}
	full    chan struct{}
	updates updates
}

// New returns a server that lets nodes with a token in.
func New(c *catalog.Catalog, f *fleet.Fleet, joinToken string, log *slog.Logger) *Server {
	return &Server{catalog: c, fleet: f, log: log, token: sha256.Sum256([]byte(joinToken)), stop: make(chan struct{}), full: make(chan struct{}, maxFull)}
}

// GRPC returns a gRPC server with this service, and the keep-alives that find dead nodes within 15 seconds.
func (s *Server) GRPC() *grpc.Server {
	g := grpc.NewServer(
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.ConnectionTimeout(10*time.Second),
	)
	streamv1.RegisterSnapshotServiceServer(g, s)
	return g
}

// Stop ends all streams, so that nodes go to another control plane.
func (s *Server) Stop() { close(s.stop) }

func (s *Server) authenticate(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		scheme, token, _ := strings.Cut(v, " ") // a scheme is case-insensitive (RFC 9110 section 11.1)
		sum := sha256.Sum256([]byte(token))
		if strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(sum[:], s.token[:]) == 1 {
			return nil
		}
	}
	return status.Error(codes.Unauthenticated, "the join token is missing or wrong: GATEWAY_JOIN_TOKEN has to be the control plane's")
}

// Stream serves one node.
func (s *Server) Stream(stream grpc.BidiStreamingServer[streamv1.StreamRequest, streamv1.StreamResponse]) error {
	address := ""
	if p, ok := peer.FromContext(stream.Context()); ok {
		address = p.Addr.String()
	}
	if err := s.authenticate(stream.Context()); err != nil {
		s.log.Warn("node refused", "address", address, "reason", "join token")
		return err
	}
	requests := make(chan *streamv1.StreamRequest)
	ended := make(chan error, 1)
	go receive(stream, requests, ended)
	hello, err := s.hello(stream.Context(), requests, ended)
	if err != nil {
		return err
	}
	session, err := s.fleet.Connect(hello, address)
	if err != nil {
		s.log.Warn("node refused", "node", hello.GetNodeId(), "address", address, "reason", err.Error())
		return status.Error(codes.AlreadyExists, err.Error())
	}
	defer session.Close()
	s.log.Info("node connected", "node", hello.GetNodeId(), "address", address, "revision", hello.GetRevision())
	n := &nodeStream{server: s, stream: stream, session: session, id: hello.GetNodeId(), hello: hello}
	err = n.run(requests, ended)
	s.log.Info("node disconnected", "node", hello.GetNodeId(), "address", address)
	return err
}

func receive(stream grpc.BidiStreamingServer[streamv1.StreamRequest, streamv1.StreamResponse], requests chan<- *streamv1.StreamRequest, ended chan<- error) {
	for {
		m, err := stream.Recv()
		if err != nil {
			ended <- err
			return
		}
		select {
		case requests <- m:
		case <-stream.Context().Done():
			ended <- stream.Context().Err()
			return
		}
	}
}

func (s *Server) hello(ctx context.Context, requests <-chan *streamv1.StreamRequest, ended <-chan error) (*streamv1.Hello, error) {
	timeout := time.NewTimer(helloTimeout)
	defer timeout.Stop()
	select {
	case m := <-requests:
		h := m.GetHello()
		switch {
		case h == nil:
			return nil, status.Error(codes.InvalidArgument, "the first message has to be hello")
		case h.GetInstanceId() == "":
			return nil, status.Error(codes.InvalidArgument, "hello needs an instance_id")
		}
		if err := nodeid.Check(h.GetNodeId()); err != nil {
			return nil, status.Error(codes.InvalidArgument, "hello: node_id "+err.Error())
		}
		return h, nil
	case err := <-ended:
		return nil, err
	case <-timeout.C:
		return nil, status.Error(codes.DeadlineExceeded, "no hello within 10s")
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.stop:
		return nil, errStopping
	}
}

var errStopping = status.Error(codes.Unavailable, "this control plane is stopping")

// nodeStream is one node's side of the server. One goroutine owns it.
type nodeStream struct {
	server  *Server
	stream  grpc.BidiStreamingServer[streamv1.StreamRequest, streamv1.StreamResponse]
	session *fleet.Session
	id      string
	hello   *streamv1.Hello

	base         *catalog.Version // what the node runs, when it is a version that is known
	sent         *catalog.Version // what is under way; nil: nothing
	rejected     *catalog.Version // what the node refused last: it is not sent again
	endpoints    *catalog.EndpointsVersion
	sentEndpoint *catalog.EndpointsVersion
}

func (n *nodeStream) run(requests <-chan *streamv1.StreamRequest, ended <-chan error) error {
	c := n.server.catalog
	first := true
	for {
		changed := c.Changed()
		if first && c.Current() != nil {
			if err := c.NodeRuns(n.stream.Context(), n.hello.GetEpoch(), n.hello.GetRevision()); err != nil {
				n.server.log.Warn("it can't be seen whether what a node runs is lost", "node", n.id, "revision", n.hello.GetRevision(), "error", err.Error())
			}
			n.resume()
			first = false
		}
		if !first {
			if err := n.sendNewest(); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case m := <-requests:
			switch {
			case m.GetResult() != nil:
				n.result(m.GetResult())
			case m.GetReport() != nil:
				n.session.Report(m.GetReport())
			}
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-n.session.Replaced:
			return status.Error(codes.Aborted, "this process has opened another stream")
		case <-n.server.stop:
			return errStopping
		}
	}
}

// resume finds out whether what the node says it runs is a version that is known here.
func (n *nodeStream) resume() {
	v := n.server.catalog.At(n.hello.GetEpoch(), n.hello.GetRevision())
	if v == nil {
		return
	}
	if hash := v.Config.Hash(); bytes.Equal(hash[:], n.hello.GetHash()) {
		n.base = v
	}
	if e := n.server.catalog.Endpoints(); e.Version == n.hello.GetEndpointsVersion() && e.Version != 0 {
		n.endpoints = e
	}
}

// sendNewest sends what leads to the newest version, when nothing is under way.
func (n *nodeStream) sendNewest() error {
	v := n.server.catalog.Current()
	if n.sent == nil && v != n.base && v != n.rejected && !n.wouldGoBack(v) {
		full := n.base == nil || n.base.Epoch != v.Epoch
		base := n.base
		if full {
			base = nil
			select {
			case n.server.full <- struct{}{}:
				defer func() { <-n.server.full }()
			case <-n.stream.Context().Done():
				return n.stream.Context().Err()
			}
		}
		for _, m := range n.server.updates.between(base, v, n.mayShrink(v)) {
			if err := n.stream.Send(m); err != nil {
				return err
			}
		}
		n.sent = v
	}
	e := n.server.catalog.Endpoints()
	if n.sentEndpoint == nil && e != n.endpoints && e.Version != 0 {
		for _, m := range endpointUpdates(n.endpoints, e) {
			if err := n.stream.Send(m); err != nil {
				return err
			}
		}
		n.sentEndpoint = e
	}
	return nil
}

// mayShrink reports whether the way from what the node runs to v may take most of its routes away.
func (n *nodeStream) mayShrink(v *catalog.Version) bool {
	if n.base != nil {
		return mayShrink(n.base.Epoch, n.base.Revision, v)
	}
	return mayShrink(n.hello.GetEpoch(), n.hello.GetRevision(), v)
}

// wouldGoBack reports whether the node runs a newer revision of the same epoch: this process has not seen it yet.
func (n *nodeStream) wouldGoBack(v *catalog.Version) bool {
	return n.base == nil && n.hello.GetEpoch() == v.Epoch && n.hello.GetRevision() > v.Revision
}

func (n *nodeStream) result(r *streamv1.Result) {
	if v := n.sentEndpoint; v != nil && r.GetEndpointsVersion() == v.Version {
		n.endpoints, n.sentEndpoint = v, nil
		return
	}
	v := n.sent
	if v == nil || r.GetRevision() != v.Revision || r.GetEpoch() != v.Epoch {
		return
	}
	n.sent = nil
	n.session.Result(r, v.CommittedAt)
	if r.GetOutcome() == streamv1.Result_OUTCOME_REJECTED {
		n.rejected = v
		for _, p := range r.GetProblems() {
			n.server.log.Warn("node refused a revision", "node", n.id, "revision", v.Revision, "kind", p.GetKind(), "name", p.GetName(), "field", p.GetField(), "reason", p.GetReason())
		}
		return
	}
	n.base, n.rejected = v, nil
}
