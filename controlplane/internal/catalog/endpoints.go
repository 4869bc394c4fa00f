package catalog

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// EndpointsVersion is what discovery knows, for all services. It is immutable.
type EndpointsVersion struct {
	// Version counts changes of this process; it starts at a different number in each, so that versions of two are not mixed up.
	Version uint64
	// Services has the sets by service id.
	Services map[string]*streamv1.ServiceEndpoints
	// ChangedAt is when each set last changed.
	ChangedAt map[string]time.Time
}

// Endpoints returns the newest version.
func (c *Catalog) Endpoints() *EndpointsVersion { return c.endpoints.Load() }

// SetEndpoints makes these the endpoints of a service. What is so already makes no version.
func (c *Catalog) SetEndpoints(serviceID string, endpoints []*configv1.Endpoint) {
	set := &streamv1.ServiceEndpoints{ServiceId: serviceID, Endpoints: slices.SortedFunc(slices.Values(endpoints), func(a, b *configv1.Endpoint) int {
		return cmp.Or(cmp.Compare(a.GetHost(), b.GetHost()), cmp.Compare(a.GetPort(), b.GetPort()))
	})}
	c.changeEndpoints(func(next *EndpointsVersion) bool {
		if proto.Equal(next.Services[serviceID], set) {
			return false
		}
		next.Services[serviceID] = set
		next.ChangedAt[serviceID] = time.Now()
		return true
	})
}

// RemoveEndpoints forgets a service's endpoints.
func (c *Catalog) RemoveEndpoints(serviceID string) {
	c.changeEndpoints(func(next *EndpointsVersion) bool {
		if next.Services[serviceID] == nil {
			return false
		}
		delete(next.Services, serviceID)
		delete(next.ChangedAt, serviceID)
		return true
	})
}

func (c *Catalog) changeEndpoints(change func(*EndpointsVersion) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.endpoints.Load()
	next := &EndpointsVersion{Version: old.Version + 1, Services: maps.Clone(old.Services), ChangedAt: maps.Clone(old.ChangedAt)}
	if next.Services == nil {
		next.Services, next.ChangedAt = map[string]*streamv1.ServiceEndpoints{}, map[string]time.Time{}
		next.Version = uint64(time.Now().UnixMicro())
	}
	if change(next) {
		c.endpoints.Store(next)
		c.wake()
	}
}
