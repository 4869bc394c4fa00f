package admin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/catalog"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/hostname"
	"gateway.internal/shared/match"
	"gateway.internal/shared/method"
)

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// routeFilter keeps routes by state, service and the request that they would match.
func routeFilter(v *catalog.Version, r *adminv1.ListRoutesRequest) (func(*catalog.Version, *configv1.Route) bool, error) {
	if p := r.GetPath(); p != "" && p[0] != '/' {
		return nil, invalid("path", p, `has to start with "/": it is a request's path, not a pattern`)
	}
	service := ""
	if r.GetServiceId() != "" {
		e := v.Config.Lookup(config.Service, r.GetServiceId())
		if e == nil {
			return nil, &config.NotFound{Kind: config.Service, Ref: r.GetServiceId()}
		}
		service = e.ID()
	}
	switch r.GetScheme() {
	case "", "http", "https":
	default:
		return nil, invalid("scheme", r.GetScheme(), `has to be "http" or "https"`)
	}
	if r.GetPort() > 65535 {
		return nil, invalid("port", fmt.Sprint(r.GetPort()), "has to be from 1 to 65535")
	}
	request := match.Request{
		Path: r.GetPath(), Method: method.Normal(r.GetMethod()), Host: r.GetHost(), Scheme: r.GetScheme(),
		Port: uint16(r.GetPort()),
	}
	var matching map[string]bool
	if request != (match.Request{}) {
		matching = map[string]bool{}
		for _, rule := range v.Config.Table().MatchAll(&request) {
			matching[rule.ID] = true
		}
	}
	return func(_ *catalog.Version, m *configv1.Route) bool {
		return (r.Enabled == nil || r.GetEnabled() == m.GetEnabled()) &&
			(matching == nil || matching[m.GetId()]) &&
			(service == "" || m.GetServiceId() == service || slices.ContainsFunc(m.GetBackends(), func(b *configv1.Backend) bool { return b.GetServiceId() == service }))
	}, nil
}

func (s *Server) serviceFilter(r *adminv1.ListServicesRequest) func(*catalog.Version, *configv1.Service) bool {
	return func(_ *catalog.Version, m *configv1.Service) bool {
		if r.GetProtocol() != "" && r.GetProtocol() != m.GetProtocol() {
			return false
		}
		if r.Healthy == nil {
			return true
		}
		c := proto.CloneOf(m)
		s.annotate(c)
		return c.Healthy != nil && c.GetHealthy() == r.GetHealthy()
	}
}

// servesHost reports whether one of a certificate's hosts stands for a host.
func servesHost(hosts []string, host string) bool {
	var b hostname.Buffer
	key := string(hostname.Key(&b, host))
	return slices.ContainsFunc(hosts, func(h string) bool {
		p, err := hostname.Parse(h)
		return err == nil && p.Matches(key)
	})
}

// ListServiceEndpoints returns the endpoints in use, with their health.
func (s services) ListServiceEndpoints(_ context.Context, r *adminv1.ListServiceEndpointsRequest) (*adminv1.ListServiceEndpointsResponse, error) {
	m, meta, err := get[*configv1.Service](s.Server, config.Service, r.GetId())
	if err != nil {
		return nil, err
	}
	list := m.GetEndpoints()
	if m.GetDiscovery() != nil {
		found := s.catalog.Endpoints().Services[m.GetId()].GetEndpoints()
		h := s.fleet.Health(m.GetId(), found)
		for _, e := range found {
			e = proto.CloneOf(e)
			e.Id = config.EndpointID(m.GetId(), e)
			if healthy, known := h.Endpoints[config.EndpointKey(e)]; known {
				e.Healthy = proto.Bool(healthy)
			}
			list = append(list, e)
		}
	}
	meta.Total = uint32(len(list))
	return &adminv1.ListServiceEndpointsResponse{Endpoints: list, Meta: meta}, nil
}

// AddServiceEndpoint adds or replaces a fixed endpoint.
func (s services) AddServiceEndpoint(ctx context.Context, r *adminv1.AddServiceEndpointRequest) (*adminv1.AddServiceEndpointResponse, error) {
	if r.GetEndpoint() == nil {
		return nil, invalid("body", "", "is required: an endpoint with host and port")
	}
	m, meta, err := s.changeEndpoints(ctx, r.GetId(), func(_ string,
		list []*configv1.Endpoint) ([]*configv1.Endpoint, error) {
		key := config.EndpointKey(r.GetEndpoint())
		for i, e := range list {
			if config.EndpointKey(e) == key {
				list[i] = r.GetEndpoint()
				return list, nil
			}
		}
		return append(list, r.GetEndpoint()), nil
	})
	return &adminv1.AddServiceEndpointResponse{Service: m, Meta: meta}, err
}

// RemoveServiceEndpoint removes a fixed endpoint, by its id or its address.
func (s services) RemoveServiceEndpoint(ctx context.Context, r *adminv1.RemoveServiceEndpointRequest) (*adminv1.RemoveServiceEndpointResponse, error) {
	wanted := r.GetEndpointId()
	switch {
	case wanted == "":
		wanted = config.EndpointKey(&configv1.Endpoint{Host: r.GetHost(), Port: r.GetPort()})
	case r.GetHost() != "" || r.GetPort() != 0:
		return nil, invalid("endpoint_id", wanted, "can't be together with host and port")
	}
	m, meta, err := s.changeEndpoints(ctx, r.GetId(), func(service string,
		list []*configv1.Endpoint) ([]*configv1.Endpoint, error) {
		n := len(list)
		list = slices.DeleteFunc(list, func(e *configv1.Endpoint) bool {
			return config.EndpointKey(e) == wanted || config.EndpointID(service, e) == wanted
		})
		if len(list) == n {
			return nil, failure(fault.NotFound, fmt.Sprintf("service %q has no fixed endpoint %q", r.GetId(), wanted))
		}
		return list, nil
	})
	return &adminv1.RemoveServiceEndpointResponse{Service: m, Meta: meta}, err
}

// endpointEdit returns what becomes of the endpoints of a service, of which it has the id.
type endpointEdit func(service string, list []*configv1.Endpoint) ([]*configv1.Endpoint, error)

func (s services) changeEndpoints(
	ctx context.Context, id string, edit endpointEdit,
) (*configv1.Service, *adminv1.ReplyMeta, error) {
	return change[*configv1.Service](ctx, s.Server, config.Edit{Kind: config.Service}, func(v *catalog.Version) (config.Edit, error) {
		old := v.Config.Lookup(config.Service, id)
		if old == nil {
			return config.Edit{}, &config.NotFound{Kind: config.Service, Ref: id}
		}
		next := v.Config.AsGiven(old.Message).(*configv1.Service)
		var err error
		next.Endpoints, err = edit(old.ID(), next.Endpoints)
		return config.Edit{Kind: config.Service, Put: next, MustExist: true}, err
	})
}
