package fleet

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// Health is what the connected nodes' checks say about one service.
type Health struct {
	// Endpoints has the verdict by "host:port": false when any node finds the endpoint unhealthy.
	Endpoints map[string]bool
	// LastCheck is the newest check.
	LastCheck *timestamppb.Timestamp
}

// Healthy returns whether one of the endpoints takes traffic; known is false where no check has said anything.
func (h *Health) Healthy() (healthy, known bool) {
	for _, one := range h.Endpoints {
		healthy = healthy || one
	}
	return healthy, len(h.Endpoints) > 0
}

// Health returns what is known of a service's endpoints. What nodes say of others does not count: it is of a
// configuration, or a registration, that is gone, and a node that is behind may say so for long.
func (f *Fleet) Health(serviceID string, endpoints ...[]*configv1.Endpoint) Health {
	h := Health{Endpoints: map[string]bool{}}
	var keys []string
	for _, list := range endpoints {
		for _, e := range list {
			keys = append(keys, config.EndpointKey(e))
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		of := n.endpoints[serviceID]
		if len(of) == 0 {
			continue
		}
		for _, key := range keys {
			e := of[key]
			if e == nil {
				continue
			}
			healthy, known := h.Endpoints[key]
			h.Endpoints[key] = e.GetHealthy() && (healthy || !known)
			if h.LastCheck == nil || e.GetCheckedAt().AsTime().After(h.LastCheck.AsTime()) {
				h.LastCheck = e.GetCheckedAt()
			}
		}
	}
	return h
}
