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
	c.changeEndpoints(func(old *EndpointsVersion) (put []*streamv1.ServiceEndpoints, forget []string) {
		for id, k := range known {
			if old.Services[id] == nil {
				put = append(put, k.Set)
			}
		}
		return put, nil
	}, func(id string) time.Time { return known[id].ChangedAt })
}
