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
	c.ChangeEndpoints(map[string][]*configv1.Endpoint{serviceID: endpoints}, nil)
}

// RemoveEndpoints forgets a service's endpoints.
func (c *Catalog) RemoveEndpoints(serviceID string) { c.ChangeEndpoints(nil, []string{serviceID}) }

// ChangeEndpoints makes these the endpoints of services, by id, and forgets those of others, all as one version: a node that asks for
// everything must not get what was found so far.
func (c *Catalog) ChangeEndpoints(set map[string][]*configv1.Endpoint, forget []string) {
	sets := make([]*streamv1.ServiceEndpoints, 0, len(set))
	for id, endpoints := range set {
		sets = append(sets, &streamv1.ServiceEndpoints{ServiceId: id, Endpoints: slices.SortedFunc(slices.Values(endpoints), func(a, b *configv1.Endpoint) int {
			return cmp.Or(cmp.Compare(a.GetHost(), b.GetHost()), cmp.Compare(a.GetPort(), b.GetPort()))
		})})
	}
	c.changeEndpoints(func(next *EndpointsVersion) bool {
		changed := false
		for _, s := range sets {
			if old := next.Services[s.GetServiceId()]; old != nil && proto.Equal(old, s) {
				continue
			}
			next.Services[s.GetServiceId()] = s
			next.ChangedAt[s.GetServiceId()] = time.Now()
			changed = true
		}
		for _, id := range forget {
			if next.Services[id] != nil {
				delete(next.Services, id)
				delete(next.ChangedAt, id)
				changed = true
			}
		}
		return changed
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
