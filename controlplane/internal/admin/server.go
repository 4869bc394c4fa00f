// Package admin is the admin API: commands that become revisions, and queries of the read model. The gRPC services are
// the API; REST is made of them by grpc-gateway, with one envelope for all replies.
package admin

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"gateway.internal/controlplane/internal/access"
	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/fleet"
	"gateway.internal/controlplane/internal/store"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// MaxRequestBytes is the largest request, over gRPC and REST.
const MaxRequestBytes = 64 << 20

const (
	// maxStreams is how many calls a connection may have under way; REST, which shares one in memory, has as many.
	maxStreams = 256
	// maxHeaderBytes is the longest list of fields of a call over gRPC.
	maxHeaderBytes = 64 << 10
	// maxConnectionIdle is how long a connection may be without a call, maxConnectionAge how old it gets before its
	// client is asked to open another one, and maxConnectionGrace how long its calls may go on then.
	maxConnectionIdle  = 15 * time.Minute
	maxConnectionAge   = time.Hour
	maxConnectionGrace = 10 * time.Minute
)

// Server is the admin API.
type Server struct {
	pin     Pin // of the authority that join tokens are for
	catalog *catalog.Catalog
	store   store.Store
	fleet   *fleet.Fleet
	log     *slog.Logger
	// tokens are who may use the API, permissions what each call takes.
	tokens      *access.Tokens
	permissions map[string]map[string]access.Role
	// restCalls are the callers whom REST has let in, by what restCall says.
	restCalls sync.Map
	throttle  *access.Throttle
	proxies   *Proxies // whose word on clients is believed
	audit     *auditor
	// largestPage is how many bytes of resources a page of a list may have.
	largestPage int

	calls    *prometheus.HistogramVec
	refusals prometheus.Counter
}

// New returns the API for who has the administrator's token, and those whom the store has tokens of.
func New(c *catalog.Catalog, s store.Store, f *fleet.Fleet, token string, log *slog.Logger, registry prometheus.Registerer) *Server {
	a := &Server{
		largestPage: MaxRequestBytes - 4<<20, // with room for what is added to them
		catalog:     c, store: s, fleet: f, log: log, tokens: access.NewTokens(s, token, log), permissions: permissions(),
		throttle: access.NewThrottle(), audit: newAuditor(s, log),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gateway_admin_request_duration_seconds", Help: "Calls of the admin API.", Buckets: prometheus.DefBuckets,
		}, []string{"method", "code"}),
		refusals: prometheus.NewCounter(prometheus.CounterOpts{Name: "gateway_admin_unauthenticated_total", Help: "Calls of the admin API with a missing or wrong token."}),
	}
	registry.MustRegister(a.calls, a.refusals)
	return a
}

// Trust lets in who has a token of an identity provider too. It is called before the first call, if at all.
func (s *Server) Trust(o *access.OIDC) { s.tokens.Trust(o) }

// Behind says which proxies' word on clients is believed. It is called before the first call, if at all.
func (s *Server) Behind(p *Proxies) { s.proxies = p }

// Run follows the store for who may use the API, and writes the audit trail, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	var both errgroup.Group
	both.Go(func() error { return s.tokens.Run(ctx) })
	both.Go(func() error { s.audit.run(ctx); return nil })
	return both.Wait()
}

// GRPC returns a gRPC server with the API, health and reflection.
func (s *Server) GRPC() *grpc.Server {
	g := grpc.NewServer(
		grpc.InTapHandle(s.tap), grpc.ChainUnaryInterceptor(s.unary), grpc.ChainStreamInterceptor(s.streaming),
		grpc.MaxRecvMsgSize(MaxRequestBytes), grpc.MaxSendMsgSize(MaxRequestBytes), grpc.ConnectionTimeout(10*time.Second),
		grpc.MaxConcurrentStreams(maxStreams), grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 30 * time.Second, Timeout: 10 * time.Second, MaxConnectionIdle: maxConnectionIdle,
			MaxConnectionAge: maxConnectionAge, MaxConnectionAgeGrace: maxConnectionGrace,
		}),
	)
	s.register(g)
	adminv1.RegisterConfigurationServiceServer(g, configurationService{Server: s})
	adminv1.RegisterFleetServiceServer(g, nodes{Server: s})
	adminv1.RegisterHealthServiceServer(g, circuits{Server: s})
	adminv1.RegisterLimitServiceServer(g, limits{Server: s})
	adminv1.RegisterAccessServiceServer(g, accessService{Server: s})
	adminv1.RegisterEnrolmentServiceServer(g, enrolments{Server: s})
	adminv1.RegisterAuditServiceServer(g, auditService{Server: s})
	healthv1.RegisterHealthServer(g, health.NewServer())
	reflection.Register(g)
	return g
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
	start := time.Now()
	defer func() {
		if r := recover(); r != nil {
			s.log.ErrorContext(ctx, "admin call panicked", "method", info.FullMethod, "panic", r, "stack", string(debug.Stack()))
			reply, err = nil, failure(fault.Internal, "the control plane failed; its log says more")
		}
		s.calls.WithLabelValues(info.FullMethod, status.Code(err).String()).Observe(time.Since(start).Seconds())
	}()
	if err := checkIfMatch(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	if err := checkTextsOf(ctx); err != nil {
		return nil, err
	}
	said := &note{call: info.FullMethod}
	ctx = context.WithValue(ctx, noteKey{}, said)
	reply, err = handler(ctx, req)
	if err != nil {
		err = translate(ctx, s.log, err)
		if status.Code(err) == codes.PermissionDenied {
			s.refused(ctx, callerOf(ctx), info.FullMethod, err)
		}
		return nil, err
	}
	if !said.done && s.changes(info.FullMethod) {
		s.audit.keep(ctx, doneEntry(ctx))
	}
	return reply, nil
}

// checkIfMatch refuses a condition that the call would not heed.
func checkIfMatch(ctx context.Context, method string) error {
	_, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("if-match")) == 0 {
		return nil
	}
	switch {
	case name == "ApplyConfiguration":
		return invalid("If-Match", "", "is no condition of this call: expected_revision is")
	case name == "RollbackRevision", strings.HasPrefix(name, "Create"):
		return invalid("If-Match", "", "is no condition of this call")
	}
	return nil
}

// nodes serves the fleet.
type nodes struct {
	adminv1.UnimplementedFleetServiceServer
	*Server
}

func (s nodes) all() ([]*adminv1.Node, uint32) {
	revision := uint32(0)
	if v := s.catalog.Current(); v != nil {
		revision = v.Revision
	}
	list := s.fleet.Nodes()
	for _, n := range list {
		if n.GetRevision() < revision {
			n.Lag = revision - n.GetRevision()
		}
	}
	return list, revision
}

func (s nodes) ListNodes(_ context.Context, r *adminv1.ListNodesRequest) (*adminv1.ListNodesResponse, error) {
	list, revision := s.all()
	list = slices.DeleteFunc(list, func(n *adminv1.Node) bool {
		return r.GetGroup() != "" && n.GetGroup() != r.GetGroup() || !hasLabels(n.GetLabels(), r.GetLabels()) || r.Connected != nil && n.GetConnected() != r.GetConnected()
	})
	part, meta, err := cut(list, r, revision)
	return &adminv1.ListNodesResponse{Nodes: part, Meta: meta}, err
}

func (s nodes) GetNode(_ context.Context, r *adminv1.GetNodeRequest) (*adminv1.GetNodeResponse, error) {
	list, revision := s.all()
	for _, n := range list {
		if n.GetId() == r.GetId() {
			return &adminv1.GetNodeResponse{Node: n, Meta: &adminv1.ReplyMeta{Revision: revision}}, nil
		}
	}
	return nil, failure(fault.NotFound, "there is no node \""+r.GetId()+"\"")
}

func (s nodes) GetRevisionTraffic(_ context.Context, r *adminv1.GetRevisionTrafficRequest) (
	*adminv1.GetRevisionTrafficResponse, error) {
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	if r.GetNumber() > v.Revision {
		return nil, failure(fault.NotFound, fmt.Sprint("there is no revision ", r.GetNumber()))
	}
	t := s.fleet.Served(v.Epoch, r.GetNumber())
	for _, route := range t.GetRoutes() {
		if e := v.Config.ByID(config.Route, route.GetRouteId()); e != nil {
			route.Route = e.Name()
		}
	}
	return &adminv1.GetRevisionTrafficResponse{Traffic: t, Meta: &adminv1.ReplyMeta{Revision: v.Revision}}, nil
}

// errorOf returns what an error of the API says; ok is false for errors from elsewhere.
func errorOf(err error) (d *adminv1.ErrorDetail, ok bool) {
	for _, detail := range status.Convert(err).Details() {
		if d, ok := detail.(*adminv1.ErrorDetail); ok {
			return d, true
		}
	}
	return nil, false
}
