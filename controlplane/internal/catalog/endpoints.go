package catalog

import (
	"cmp"
	"slices"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/endpoints"
)

const (
	// maxEndpoints is how many discovered endpoints a service has at most, as many as may be configured.
	maxEndpoints = 10_000
	// keptEndpoints and keptEndpointsBytes bound the versions of endpoints that are kept for deltas.
	keptEndpoints      = 64
	keptEndpointsBytes = 32 << 20
)

// EndpointsVersion is what discovery knows, for all services. It is immutable.
type EndpointsVersion struct {
	endpoints.Sets
	// Version counts changes of this process; it starts at a different number in each, so that versions of two are not
	// mixed up.
	Version uint64
	// ChangedAt is when each set last changed.
	ChangedAt map[string]time.Time

	cost int // of keeping it beside the next one, in bytes; under the catalog's mu
}

// Endpoints returns the newest version.
func (c *Catalog) Endpoints() *EndpointsVersion { return c.endpoints.Load() }

// EndpointsWith returns the newest version with a hash, of those that are still kept, or nil.
func (c *Catalog) EndpointsWith(hash [32]byte) *EndpointsVersion {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range slices.Backward(c.keptEndpoints) {
		if v.Hash() == hash {
			return v
		}
	}
	return nil
}

// SetEndpoints makes these the endpoints of a service. What is so already makes no version.
func (c *Catalog) SetEndpoints(serviceID string, endpoints []*configv1.Endpoint) {
	c.ChangeEndpoints(map[string][]*configv1.Endpoint{serviceID: endpoints}, nil)
}

// RemoveEndpoints forgets a service's endpoints.
func (c *Catalog) RemoveEndpoints(serviceID string) { c.ChangeEndpoints(nil, []string{serviceID}) }

// ChangeEndpoints makes these the endpoints of services, by id, and forgets those of others, all as one version: a
// node that asks for everything must not get what was found so far. Of more than maxEndpoints of a service the first
// by host and port count.
func (c *Catalog) ChangeEndpoints(set map[string][]*configv1.Endpoint, forget []string) {
	sets := make([]*streamv1.ServiceEndpoints, 0, len(set))
	for id, list := range set {
		list = slices.SortedFunc(slices.Values(list), endpoints.Compare)
		if len(list) > maxEndpoints {
			c.log.Error("a service has more discovered endpoints than are used", "service_id", id, "endpoints", len(list),
				"used", maxEndpoints)
			list = slices.Clone(list[:maxEndpoints])
		}
		sets = append(sets, &streamv1.ServiceEndpoints{ServiceId: id, Endpoints: list})
	}
	c.changeEndpoints(func(*EndpointsVersion) ([]*streamv1.ServiceEndpoints, []string) { return sets, forget },
		func(string) time.Time { return time.Now() })
}

// PublishEndpoints makes a first version of what is known, be that nothing, where there is none yet: nodes may have
// endpoints from another process, and learn only so that there are none.
func (c *Catalog) PublishEndpoints() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.endpoints.Load(); old.Version == 0 {
		c.publishEndpoints(&EndpointsVersion{Sets: old.Sets, ChangedAt: old.ChangedAt, Version: firstEndpoints()})
	}
}

// firstEndpoints is the number of a process's first version.
func firstEndpoints() uint64 { return uint64(time.Now().UnixMicro()) }

// changeEndpoints puts and forgets what change says of the newest version, as one version. at returns when a
// service's set became what it is.
func (c *Catalog) changeEndpoints(
	change func(old *EndpointsVersion) (put []*streamv1.ServiceEndpoints, forget []string),
	at func(serviceID string) time.Time,
) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.endpoints.Load()
	sets, changed, left := old.Put(change(old))
	if !changed {
		return
	}
	next := &EndpointsVersion{Sets: sets, Version: cmp.Or(old.Version, firstEndpoints()) + 1,
		ChangedAt: make(map[string]time.Time, len(sets.Services))}
	for id, set := range next.Services {
		if next.ChangedAt[id] = old.ChangedAt[id]; old.Services[id] != set {
			next.ChangedAt[id] = at(id)
		}
	}
	const ofService = 256 // in the maps of a version
	old.cost = ofService*len(old.Services) + left
	c.publishEndpoints(next)
}

// publishEndpoints makes next the newest version; the caller holds mu.
func (c *Catalog) publishEndpoints(next *EndpointsVersion) {
	c.keepEndpoints(next)
	c.endpoints.Store(next)
	c.wake()
}

// keepEndpoints keeps a version, and lets go of the oldest ones that are too many or too large together; the caller
// holds mu.
func (c *Catalog) keepEndpoints(next *EndpointsVersion) {
	c.keptEndpoints = append(c.keptEndpoints, next)
	first, cost := len(c.keptEndpoints)-1, 0
	for first > 0 && len(c.keptEndpoints)-first < keptEndpoints &&
		cost+c.keptEndpoints[first-1].cost <= keptEndpointsBytes {
		first--
		cost += c.keptEndpoints[first].cost
	}
	c.keptEndpoints = slices.Clone(c.keptEndpoints[first:])
}
