// Package stream brings revisions and endpoints to the nodes over gRPC. Every node has at most one update under way;
// when it has answered, it gets what leads from there to the newest version, so a slow node skips versions instead of
// queueing them. What is sent is made once for all nodes.
package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"gateway.internal/controlplane/internal/authority"
	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/fleet"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/nodeid"
)

const (
	helloTimeout = 10 * time.Second
	// maxStreams is how many streams a connection may have: a node has one, and a former one that may not have ended.
	maxStreams = 8
	// maxConnectionIdle is how long a connection may be without a stream. One with a stream gets as old as that.
	maxConnectionIdle = 2 * time.Minute
	// maxHeaderBytes is the longest list of fields of a call.
	maxHeaderBytes = 64 << 10
	// maxMessageBytes is the largest message of a node.
	maxMessageBytes = 4 << 20
)

// Server implements streamv1.SnapshotServiceServer.
type Server struct {
	streamv1.UnimplementedSnapshotServiceServer

	catalog *catalog.Catalog
	fleet   *fleet.Fleet
	log     *slog.Logger
	gate    *authority.Authority
	stop    chan struct{}
	updates atomic.Pointer[updates]
	// sendTimeout is how long a node has to take a message.
	sendTimeout time.Duration
	// enrolling has one for each node that is enrolled now.
	enrolling chan struct{}
}

// New returns a server for the nodes that an authority lets in.
func New(c *catalog.Catalog, f *fleet.Fleet, gate *authority.Authority, log *slog.Logger) *Server {
	return &Server{catalog: c, fleet: f, log: log, gate: gate, stop: make(chan struct{}), sendTimeout: sendTimeout,
		enrolling: make(chan struct{}, maxEnrolments)}
}

// made returns the updates that are made of what the catalog gives from now on: what it gave before a purge of secrets
// is of no use to anybody else.
func (s *Server) made() *updates {
	purges := s.catalog.Purges()
	for {
		u := s.updates.Load()
		if u != nil && u.purges >= purges {
			return u
		}
		if s.updates.CompareAndSwap(u, &updates{purges: purges}) && u != nil {
			u.forget()
		}
	}
}

// GRPC returns a gRPC server with this service and the enrolment of nodes, and the keep-alives that find dead nodes
// within 15 seconds.
func (s *Server) GRPC() *grpc.Server {
	g := grpc.NewServer(
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 10 * time.Second, Timeout: 5 * time.Second, MaxConnectionIdle: maxConnectionIdle,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.Creds(s.gate.Transport()), grpc.MaxRecvMsgSize(maxMessageBytes), grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaderBytes), grpc.ConnectionTimeout(10*time.Second), grpc.ForceServerCodecV2(newCodec()),
	)
	streamv1.RegisterSnapshotServiceServer(g, s)
	streamv1.RegisterEnrolmentServiceServer(g, enrolment{Server: s})
	return g
}

// Stop ends all streams, so that nodes go to another control plane.
func (s *Server) Stop() { close(s.stop) }

// isNot returns why a node that says hello is not who it was let in as, or nil.
func (s *Server) isNot(p authority.Peer, h *streamv1.Hello) error {
	switch {
	case !p.Certified:
		return s.gate.CheckID(h.GetNodeId(), 0)
	case h.GetNodeId() != p.ID:
		return &authority.Refusal{Reason: authority.ReasonIdentity, Node: p.ID, Message: fmt.Sprintf(
			"the node says that it is %q, and its certificate is of node %q", h.GetNodeId(), p.ID)}
	case p.Grouped && h.GetGroup() != p.Group:
		return &authority.Refusal{Reason: authority.ReasonIdentity, Node: p.ID, Message: fmt.Sprintf(
			"node %q says that it is of group %q, and its certificate is of group %q", p.ID, h.GetGroup(), p.Group)}
	}
	return s.gate.Check(p)
}

// Stream serves one node.
func (s *Server) Stream(stream grpc.BidiStreamingServer[streamv1.StreamRequest, streamv1.StreamResponse]) error {
	address := addressOf(stream.Context())
	who, err := s.gate.Authenticate(stream.Context())
	if err != nil {
		return s.refuse(stream.Context(), "", err)
	}
	requests := make(chan *streamv1.StreamRequest)
	ended := make(chan error, 1)
	go receive(stream, requests, ended)
	hello, err := s.hello(stream.Context(), requests, ended)
	if err != nil {
		return err
	}
	if err := s.isNot(who, hello); err != nil {
		return s.refuse(stream.Context(), hello.GetNodeId(), err)
	}
	session, err := s.fleet.Connect(hello, address)
	if err != nil {
		s.log.Warn("node refused", "node", hello.GetNodeId(), "address", address, "reason", err.Error())
		if errors.Is(err, fleet.ErrFull) {
			return status.Error(codes.ResourceExhausted, err.Error())
		}
		return status.Error(codes.AlreadyExists, err.Error())
	}
	defer session.Close()
	s.log.Info("node connected", "node", hello.GetNodeId(), "address", address, "revision", hello.GetRevision())
	n := &nodeStream{server: s, ctx: stream.Context(), session: session, id: hello.GetNodeId(), hello: hello, who: who,
		out: make(chan delivery, 4+len(config.Apart())), failed: make(chan error, 1)}
	go send(n.ctx, stream, n.out, s.sendTimeout, n.failed)
	err = n.run(requests, ended)
	close(n.out)
	switch status.Code(err) {
	case codes.OK, codes.Canceled, codes.Unavailable, codes.Aborted: // one side is stopping, or the connection was lost
		s.log.Info("node disconnected", "node", hello.GetNodeId(), "address", address)
	default:
		s.log.Warn("node disconnected", "node", hello.GetNodeId(), "address", address, "error", err.Error())
	}
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
