package admin

import (
	"context"
	"slices"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"

	"gateway.internal/controlplane/internal/catalog"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// offered is how the resources of a kind are offered.
type offered struct {
	grpc func(*Server, grpc.ServiceRegistrar)
	rest func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error
}

func offers() map[config.Kind]offered {
	return map[config.Kind]offered{
		config.Policy: {
			func(s *Server, g grpc.ServiceRegistrar) {
				adminv1.RegisterPolicyConfigServiceServer(g, policies{Server: s})
			},
			adminv1.RegisterPolicyConfigServiceHandler,
		},
		config.Certificate: {
			func(s *Server, g grpc.ServiceRegistrar) {
				adminv1.RegisterCertificateConfigServiceServer(g, certificates{Server: s})
			},
			adminv1.RegisterCertificateConfigServiceHandler,
		},
		config.Consumer: {
			func(s *Server, g grpc.ServiceRegistrar) {
				adminv1.RegisterConsumerConfigServiceServer(g, consumers{Server: s})
			},
			adminv1.RegisterConsumerConfigServiceHandler,
		},
		config.Middleware: {
			func(s *Server, g grpc.ServiceRegistrar) {
				adminv1.RegisterMiddlewareConfigServiceServer(g, middleware{Server: s})
			},
			adminv1.RegisterMiddlewareConfigServiceHandler,
		},
		config.Pipeline: {
			func(s *Server, g grpc.ServiceRegistrar) {
				adminv1.RegisterPipelineConfigServiceServer(g, pipelines{Server: s})
			},
			adminv1.RegisterPipelineConfigServiceHandler,
		},
		config.Service: {
			func(s *Server, g grpc.ServiceRegistrar) {
				adminv1.RegisterServiceConfigServiceServer(g, services{Server: s})
			},
			adminv1.RegisterServiceConfigServiceHandler,
		},
		config.Route: {
			func(s *Server, g grpc.ServiceRegistrar) {
				adminv1.RegisterRouteConfigServiceServer(g, routes{Server: s})
			},
			adminv1.RegisterRouteConfigServiceHandler,
		},
	}
}

// register gives a gRPC server all kinds' services.
func (s *Server) register(g grpc.ServiceRegistrar) {
	for _, o := range offers() {
		o.grpc(s, g)
	}
}

type policies struct {
	adminv1.UnimplementedPolicyConfigServiceServer
	*Server
}

func (s policies) ListPolicies(
	ctx context.Context, r *adminv1.ListPoliciesRequest,
) (*adminv1.ListPoliciesResponse, error) {
	found, meta, err := list(ctx, s.Server, config.Policy, r, (func(*catalog.Version, *configv1.Policy) bool)(nil))
	return &adminv1.ListPoliciesResponse{Policies: found, Meta: meta}, err
}

func (s policies) GetPolicy(_ context.Context, r *adminv1.GetPolicyRequest) (*adminv1.GetPolicyResponse, error) {
	m, meta, err := get[*configv1.Policy](s.Server, config.Policy, r.GetId())
	return &adminv1.GetPolicyResponse{Policy: m, Meta: meta}, err
}

func (s policies) CreatePolicy(ctx context.Context, r *adminv1.CreatePolicyRequest) (*adminv1.CreatePolicyResponse, error) {
	m, meta, err := create(ctx, s.Server, r.GetPolicy())
	return &adminv1.CreatePolicyResponse{Policy: m, Meta: meta}, err
}

func (s policies) UpdatePolicy(ctx context.Context, r *adminv1.UpdatePolicyRequest) (*adminv1.UpdatePolicyResponse, error) {
	m, meta, err := update(ctx, s.Server, r, r.GetPolicy())
	return &adminv1.UpdatePolicyResponse{Policy: m, Meta: meta}, err
}

func (s policies) PatchPolicy(ctx context.Context, r *adminv1.PatchPolicyRequest) (*adminv1.PatchPolicyResponse, error) {
	m, meta, err := patch[*configv1.Policy](ctx, s.Server, config.Policy, r)
	return &adminv1.PatchPolicyResponse{Policy: m, Meta: meta}, err
}

func (s policies) DeletePolicy(ctx context.Context, r *adminv1.DeletePolicyRequest) (*adminv1.DeletePolicyResponse, error) {
	meta, err := remove[*configv1.Policy](ctx, s.Server, config.Policy, r.GetId(), r.GetVersion())
	return &adminv1.DeletePolicyResponse{Meta: meta}, err
}

type certificates struct {
	adminv1.UnimplementedCertificateConfigServiceServer
	*Server
}

func (s certificates) ListCertificates(
	ctx context.Context, r *adminv1.ListCertificatesRequest,
) (*adminv1.ListCertificatesResponse, error) {
	found, meta, err := list(ctx, s.Server, config.Certificate, r, func(_ *catalog.Version, m *configv1.Certificate) bool {
		return r.GetHost() == "" || servesHost(m.GetHosts(), r.GetHost())
	})
	return &adminv1.ListCertificatesResponse{Certificates: found, Meta: meta}, err
}

func (s certificates) GetCertificate(_ context.Context, r *adminv1.GetCertificateRequest) (*adminv1.GetCertificateResponse, error) {
	m, meta, err := get[*configv1.Certificate](s.Server, config.Certificate, r.GetId())
	return &adminv1.GetCertificateResponse{Certificate: m, Meta: meta}, err
}

func (s certificates) CreateCertificate(ctx context.Context, r *adminv1.CreateCertificateRequest) (*adminv1.CreateCertificateResponse, error) {
	m, meta, err := create(ctx, s.Server, r.GetCertificate())
	return &adminv1.CreateCertificateResponse{Certificate: m, Meta: meta}, err
}

func (s certificates) UpdateCertificate(ctx context.Context, r *adminv1.UpdateCertificateRequest) (*adminv1.UpdateCertificateResponse, error) {
	m, meta, err := update(ctx, s.Server, r, r.GetCertificate())
	return &adminv1.UpdateCertificateResponse{Certificate: m, Meta: meta}, err
}

func (s certificates) PatchCertificate(ctx context.Context, r *adminv1.PatchCertificateRequest) (*adminv1.PatchCertificateResponse, error) {
	m, meta, err := patch[*configv1.Certificate](ctx, s.Server, config.Certificate, r)
	return &adminv1.PatchCertificateResponse{Certificate: m, Meta: meta}, err
}

func (s certificates) DeleteCertificate(ctx context.Context, r *adminv1.DeleteCertificateRequest) (*adminv1.DeleteCertificateResponse, error) {
	meta, err := remove[*configv1.Certificate](ctx, s.Server, config.Certificate, r.GetId(), r.GetVersion())
	return &adminv1.DeleteCertificateResponse{Meta: meta}, err
}

type consumers struct {
	adminv1.UnimplementedConsumerConfigServiceServer
	*Server
}

func (s consumers) ListConsumers(
	ctx context.Context, r *adminv1.ListConsumersRequest,
) (*adminv1.ListConsumersResponse, error) {
	found, meta, err := list(ctx, s.Server, config.Consumer, r, func(_ *catalog.Version, m *configv1.Consumer) bool {
		return r.GetGroup() == "" || slices.Contains(m.GetGroups(), r.GetGroup())
	})
	return &adminv1.ListConsumersResponse{Consumers: found, Meta: meta}, err
}

func (s consumers) GetConsumer(_ context.Context, r *adminv1.GetConsumerRequest) (*adminv1.GetConsumerResponse, error) {
	m, meta, err := get[*configv1.Consumer](s.Server, config.Consumer, r.GetId())
	return &adminv1.GetConsumerResponse{Consumer: m, Meta: meta}, err
}

func (s consumers) CreateConsumer(ctx context.Context, r *adminv1.CreateConsumerRequest) (*adminv1.CreateConsumerResponse, error) {
	m, meta, err := create(ctx, s.Server, r.GetConsumer())
	return &adminv1.CreateConsumerResponse{Consumer: m, Meta: meta}, err
}

func (s consumers) UpdateConsumer(ctx context.Context, r *adminv1.UpdateConsumerRequest) (*adminv1.UpdateConsumerResponse, error) {
	m, meta, err := update(ctx, s.Server, r, r.GetConsumer())
	return &adminv1.UpdateConsumerResponse{Consumer: m, Meta: meta}, err
}

func (s consumers) PatchConsumer(ctx context.Context, r *adminv1.PatchConsumerRequest) (*adminv1.PatchConsumerResponse, error) {
	m, meta, err := patch[*configv1.Consumer](ctx, s.Server, config.Consumer, r)
	return &adminv1.PatchConsumerResponse{Consumer: m, Meta: meta}, err
}

func (s consumers) DeleteConsumer(ctx context.Context, r *adminv1.DeleteConsumerRequest) (*adminv1.DeleteConsumerResponse, error) {
	meta, err := remove[*configv1.Consumer](ctx, s.Server, config.Consumer, r.GetId(), r.GetVersion())
	return &adminv1.DeleteConsumerResponse{Meta: meta}, err
}

type middleware struct {
	adminv1.UnimplementedMiddlewareConfigServiceServer
	*Server
}

func (s middleware) ListMiddleware(
	ctx context.Context, r *adminv1.ListMiddlewareRequest,
) (*adminv1.ListMiddlewareResponse, error) {
	found, meta, err := list(ctx, s.Server, config.Middleware, r, func(_ *catalog.Version, m *configv1.Middleware) bool {
		return (r.Enabled == nil || r.GetEnabled() == m.GetEnabled()) && (r.GetType() == "" || r.GetType() == m.GetType())
	})
	return &adminv1.ListMiddlewareResponse{Middleware: found, Meta: meta}, err
}

func (s middleware) GetMiddleware(_ context.Context, r *adminv1.GetMiddlewareRequest) (*adminv1.GetMiddlewareResponse, error) {
	m, meta, err := get[*configv1.Middleware](s.Server, config.Middleware, r.GetId())
	return &adminv1.GetMiddlewareResponse{Middleware: m, Meta: meta}, err
}

func (s middleware) CreateMiddleware(ctx context.Context, r *adminv1.CreateMiddlewareRequest) (*adminv1.CreateMiddlewareResponse, error) {
	m, meta, err := create(ctx, s.Server, r.GetMiddleware())
	return &adminv1.CreateMiddlewareResponse{Middleware: m, Meta: meta}, err
}

func (s middleware) UpdateMiddleware(ctx context.Context, r *adminv1.UpdateMiddlewareRequest) (*adminv1.UpdateMiddlewareResponse, error) {
	m, meta, err := update(ctx, s.Server, r, r.GetMiddleware())
	return &adminv1.UpdateMiddlewareResponse{Middleware: m, Meta: meta}, err
}

func (s middleware) PatchMiddleware(ctx context.Context, r *adminv1.PatchMiddlewareRequest) (*adminv1.PatchMiddlewareResponse, error) {
	m, meta, err := patch[*configv1.Middleware](ctx, s.Server, config.Middleware, r)
	return &adminv1.PatchMiddlewareResponse{Middleware: m, Meta: meta}, err
}

func (s middleware) DeleteMiddleware(ctx context.Context, r *adminv1.DeleteMiddlewareRequest) (*adminv1.DeleteMiddlewareResponse, error) {
	meta, err := remove[*configv1.Middleware](ctx, s.Server, config.Middleware, r.GetId(), r.GetVersion())
	return &adminv1.DeleteMiddlewareResponse{Meta: meta}, err
}

func (s middleware) EnableMiddleware(ctx context.Context, r *adminv1.EnableMiddlewareRequest) (*adminv1.EnableMiddlewareResponse, error) {
	m, meta, err := enable[*configv1.Middleware](ctx, s.Server, config.Middleware, r.GetId(), true)
	return &adminv1.EnableMiddlewareResponse{Middleware: m, Meta: meta}, err
}

func (s middleware) DisableMiddleware(ctx context.Context, r *adminv1.DisableMiddlewareRequest) (*adminv1.DisableMiddlewareResponse, error) {
	m, meta, err := enable[*configv1.Middleware](ctx, s.Server, config.Middleware, r.GetId(), false)
	return &adminv1.DisableMiddlewareResponse{Middleware: m, Meta: meta}, err
}

type pipelines struct {
	adminv1.UnimplementedPipelineConfigServiceServer
	*Server
}

func (s pipelines) ListPipelines(
	ctx context.Context, r *adminv1.ListPipelinesRequest,
) (*adminv1.ListPipelinesResponse, error) {
	found, meta, err := list(ctx, s.Server, config.Pipeline, r, (func(*catalog.Version, *configv1.Pipeline) bool)(nil))
	return &adminv1.ListPipelinesResponse{Pipelines: found, Meta: meta}, err
}

func (s pipelines) GetPipeline(_ context.Context, r *adminv1.GetPipelineRequest) (*adminv1.GetPipelineResponse, error) {
	m, meta, err := get[*configv1.Pipeline](s.Server, config.Pipeline, r.GetId())
	return &adminv1.GetPipelineResponse{Pipeline: m, Meta: meta}, err
}

func (s pipelines) CreatePipeline(ctx context.Context, r *adminv1.CreatePipelineRequest) (*adminv1.CreatePipelineResponse, error) {
	m, meta, err := create(ctx, s.Server, r.GetPipeline())
	return &adminv1.CreatePipelineResponse{Pipeline: m, Meta: meta}, err
}

func (s pipelines) UpdatePipeline(ctx context.Context, r *adminv1.UpdatePipelineRequest) (*adminv1.UpdatePipelineResponse, error) {
	m, meta, err := update(ctx, s.Server, r, r.GetPipeline())
	return &adminv1.UpdatePipelineResponse{Pipeline: m, Meta: meta}, err
}

func (s pipelines) PatchPipeline(ctx context.Context, r *adminv1.PatchPipelineRequest) (*adminv1.PatchPipelineResponse, error) {
	m, meta, err := patch[*configv1.Pipeline](ctx, s.Server, config.Pipeline, r)
	return &adminv1.PatchPipelineResponse{Pipeline: m, Meta: meta}, err
}

func (s pipelines) DeletePipeline(ctx context.Context, r *adminv1.DeletePipelineRequest) (*adminv1.DeletePipelineResponse, error) {
	meta, err := remove[*configv1.Pipeline](ctx, s.Server, config.Pipeline, r.GetId(), r.GetVersion())
	return &adminv1.DeletePipelineResponse{Meta: meta}, err
}

type services struct {
	adminv1.UnimplementedServiceConfigServiceServer
	*Server
}

func (s services) ListServices(
	ctx context.Context, r *adminv1.ListServicesRequest,
) (*adminv1.ListServicesResponse, error) {
	found, meta, err := list(ctx, s.Server, config.Service, r, s.serviceFilter(r))
	return &adminv1.ListServicesResponse{Services: found, Meta: meta}, err
}

func (s services) GetService(_ context.Context, r *adminv1.GetServiceRequest) (*adminv1.GetServiceResponse, error) {
	m, meta, err := get[*configv1.Service](s.Server, config.Service, r.GetId())
	return &adminv1.GetServiceResponse{Service: m, Meta: meta}, err
}

func (s services) CreateService(ctx context.Context, r *adminv1.CreateServiceRequest) (*adminv1.CreateServiceResponse, error) {
	m, meta, err := create(ctx, s.Server, r.GetService())
	return &adminv1.CreateServiceResponse{Service: m, Meta: meta}, err
}

func (s services) UpdateService(ctx context.Context, r *adminv1.UpdateServiceRequest) (*adminv1.UpdateServiceResponse, error) {
	m, meta, err := update(ctx, s.Server, r, r.GetService())
	return &adminv1.UpdateServiceResponse{Service: m, Meta: meta}, err
}

func (s services) PatchService(ctx context.Context, r *adminv1.PatchServiceRequest) (*adminv1.PatchServiceResponse, error) {
	m, meta, err := patch[*configv1.Service](ctx, s.Server, config.Service, r)
	return &adminv1.PatchServiceResponse{Service: m, Meta: meta}, err
}

func (s services) DeleteService(ctx context.Context, r *adminv1.DeleteServiceRequest) (*adminv1.DeleteServiceResponse, error) {
	meta, err := remove[*configv1.Service](ctx, s.Server, config.Service, r.GetId(), r.GetVersion())
	return &adminv1.DeleteServiceResponse{Meta: meta}, err
}

type routes struct {
	adminv1.UnimplementedRouteConfigServiceServer
	*Server
}

func (s routes) ListRoutes(ctx context.Context, r *adminv1.ListRoutesRequest) (*adminv1.ListRoutesResponse, error) {
	v, err := s.versionAt(ctx, r.GetRevision())
	if err != nil {
		return nil, err
	}
	keep, err := routeFilter(v, r)
	if err != nil {
		return nil, err
	}
	found, meta, err := listOf(s.Server, v, config.Route, r, keep)
	return &adminv1.ListRoutesResponse{Routes: found, Meta: meta}, err
}

func (s routes) GetRoute(_ context.Context, r *adminv1.GetRouteRequest) (*adminv1.GetRouteResponse, error) {
	m, meta, err := get[*configv1.Route](s.Server, config.Route, r.GetId())
	return &adminv1.GetRouteResponse{Route: m, Meta: meta}, err
}

func (s routes) CreateRoute(ctx context.Context, r *adminv1.CreateRouteRequest) (*adminv1.CreateRouteResponse, error) {
	m, meta, err := create(ctx, s.Server, r.GetRoute())
	return &adminv1.CreateRouteResponse{Route: m, Meta: meta}, err
}

func (s routes) UpdateRoute(ctx context.Context, r *adminv1.UpdateRouteRequest) (*adminv1.UpdateRouteResponse, error) {
	m, meta, err := update(ctx, s.Server, r, r.GetRoute())
	return &adminv1.UpdateRouteResponse{Route: m, Meta: meta}, err
}

func (s routes) PatchRoute(ctx context.Context, r *adminv1.PatchRouteRequest) (*adminv1.PatchRouteResponse, error) {
	m, meta, err := patch[*configv1.Route](ctx, s.Server, config.Route, r)
	return &adminv1.PatchRouteResponse{Route: m, Meta: meta}, err
}

func (s routes) DeleteRoute(ctx context.Context, r *adminv1.DeleteRouteRequest) (*adminv1.DeleteRouteResponse, error) {
	meta, err := remove[*configv1.Route](ctx, s.Server, config.Route, r.GetId(), r.GetVersion())
	return &adminv1.DeleteRouteResponse{Meta: meta}, err
}

func (s routes) EnableRoute(ctx context.Context, r *adminv1.EnableRouteRequest) (*adminv1.EnableRouteResponse, error) {
	m, meta, err := enable[*configv1.Route](ctx, s.Server, config.Route, r.GetId(), true)
	return &adminv1.EnableRouteResponse{Route: m, Meta: meta}, err
}

func (s routes) DisableRoute(ctx context.Context, r *adminv1.DisableRouteRequest) (*adminv1.DisableRouteResponse, error) {
	m, meta, err := enable[*configv1.Route](ctx, s.Server, config.Route, r.GetId(), false)
	return &adminv1.DisableRouteResponse{Route: m, Meta: meta}, err
}
