package catalog

import (
	"slices"

	"gateway.internal/shared/config"
)

const (
	// keptVersions and keptBytes bound the versions that are kept for deltas. The newest one does not count.
	keptVersions = 64
	keptBytes    = 128 << 20
)

// publish makes v the newest version; the caller has a turn of commits.
func (c *Catalog) publish(v *Version) {
	old := c.Current()
	cost := 0
	if old != nil && old.Epoch == v.Epoch && old.Revision < v.Revision {
		cost = costOf(old.Config, v.Config)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case old == nil:
	case old.Epoch != v.Epoch:
		c.kept = nil
		c.forgetRecalled()
	case v.Revision <= old.Revision:
		return
	default:
		old.cost = cost
	}
	c.kept = append(c.kept, v)
	first, kept := len(c.kept)-1, 0
	for first > 0 && len(c.kept)-first < keptVersions && kept+c.kept[first-1].cost <= keptBytes {
		first--
		kept += c.kept[first].cost
	}
	c.kept = slices.Clone(c.kept[first:])
	c.current.Store(v)
	c.wake()
}

// costOf estimates how many bytes a configuration takes beside the next one, which shares with it what did not change.
func costOf(conf, next *config.Config) int {
	const (
		index      = 16 << 10
		ofRule     = 100     // in the maps of the table of routes
		ofResource = 1 << 10 // besides its content, which is there as a message and as bytes
		content    = 4       // times its bytes
	)
	cost := index + ofRule*conf.Len(config.Route)
	for _, ch := range config.Diff(conf, next) {
		if ch.Before != nil {
			cost += ofResource + content*ch.Before.Size()
		}
	}
	return cost
}
