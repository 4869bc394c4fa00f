package catalog

import (
	"time"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// RestoredEndpoints are endpoints of a service that were known before this process.
type RestoredEndpoints struct {
	// Set is ordered by host and port.
	Set *streamv1.ServiceEndpoints
	// ChangedAt is when they became these.
	ChangedAt time.Time
}

// RestoreEndpoints takes over endpoints by service id, as one version. Services that have some keep them.
func (c *Catalog) RestoreEndpoints(known map[string]RestoredEndpoints) {
	c.changeEndpoints(func(next *EndpointsVersion) bool {
		changed := false
		for id, k := range known {
			if next.Services[id] != nil {
				continue
			}
			next.Services[id], next.ChangedAt[id] = k.Set, k.ChangedAt
			changed = true
		}
		return changed
	})
}
