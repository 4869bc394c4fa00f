package fleet

import (
	"cmp"
	"slices"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// use takes in how a node uses endpoints; the caller holds mu.
func (n *node) use(list []*streamv1.EndpointUse) {
	for _, u := range list {
		key := config.EndpointKey(&configv1.Endpoint{Host: u.GetHost(), Port: u.GetPort()})
		of := n.uses[u.GetServiceId()]
		if u.GetGone() {
			if delete(of, key); len(of) == 0 {
				delete(n.uses, u.GetServiceId())
			}
			continue
		}
		if of == nil {
			of = map[string]*streamv1.EndpointUse{}
			n.uses[u.GetServiceId()] = of
		}
		of[key] = u
	}
}

// Endpoint returns how the connected nodes stand to an endpoint of a service, by id: those that have said anything.
func (f *Fleet) Endpoint(serviceID, key string) (list []*adminv1.NodeEndpointStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, n := range f.nodes {
		health, use := n.endpoints[serviceID][key], n.uses[serviceID][key]
		if health == nil && use == nil {
			continue
		}
		s := &adminv1.NodeEndpointStatus{
			NodeId: id, Error: health.GetError(), CheckedAt: health.GetCheckedAt(), InFlight: use.GetInFlight(),
			Ejections: use.GetEjections(), EjectedUntil: use.GetEjectedUntil(), EjectionReason: use.GetEjectionReason(),
		}
		if health != nil {
			s.Healthy = &health.Healthy
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *adminv1.NodeEndpointStatus) int { return cmp.Compare(a.GetNodeId(), b.GetNodeId()) })
	return list
}
