package admin

import (
	"cmp"
	"context"
	"slices"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// serviceHealth returns what nodes say of a service.
func (s *Server) serviceHealth(c *configv1.Service, nodes bool) *adminv1.ServiceHealth {
	endpoints := c.GetEndpoints()
	if c.GetDiscovery() != nil {
		endpoints = s.catalog.Endpoints().Services[c.GetId()].GetEndpoints()
	}
	known := s.fleet.Health(c.GetId(), endpoints)
	h := &adminv1.ServiceHealth{Id: c.GetId(), Name: c.GetName(), LastHealthCheck: known.LastCheck}
	if healthy, is := known.Healthy(); is {
		h.Healthy = &healthy
	}
	for _, e := range endpoints {
		key := config.EndpointKey(e)
		status := &adminv1.EndpointStatus{Id: config.EndpointID(c.GetId(), e), Host: e.GetHost(), Port: e.GetPort()}
		if healthy, is := known.Endpoints[key]; is {
			status.Healthy = &healthy
		}
		if nodes {
			status.Nodes = s.fleet.Endpoint(c.GetId(), key)
		}
		h.Endpoints = append(h.Endpoints, status)
	}
	if nodes {
		h.Circuits = s.circuit(c).GetNodes()
	}
	return h
}

// GetServiceHealth implements adminv1.FleetServiceServer.
func (s nodes) GetServiceHealth(_ context.Context, r *adminv1.GetServiceHealthRequest) (
	*adminv1.GetServiceHealthResponse, error) {
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	e := v.Config.Lookup(config.Service, r.GetId())
	if e == nil {
		return nil, &config.NotFound{Kind: config.Service, Ref: r.GetId()}
	}
	return &adminv1.GetServiceHealthResponse{
		Service: s.serviceHealth(e.Message.(*configv1.Service), true), Meta: &adminv1.ReplyMeta{Revision: v.Revision},
	}, nil
}

// ListServiceHealth implements adminv1.FleetServiceServer.
func (s nodes) ListServiceHealth(_ context.Context, r *adminv1.ListServiceHealthRequest) (
	*adminv1.ListServiceHealthResponse, error) {
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	var all []*configv1.Service
	for e := range v.Config.All(config.Service) {
		all = append(all, e.Message.(*configv1.Service))
	}
	slices.SortFunc(all, func(a, b *configv1.Service) int { return cmp.Compare(a.GetName(), b.GetName()) })
	part, meta, err := cut(all, r, v.Revision)
	if err != nil {
		return nil, err
	}
	reply := &adminv1.ListServiceHealthResponse{Meta: meta}
	for _, c := range part {
		reply.Services = append(reply.Services, s.serviceHealth(c, false))
	}
	return reply, nil
}
