package catalog

import (
	"context"
	"errors"
	"slices"
	"time"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/config"
)

// maxRecalled is how many versions are kept that were recalled from the history, for nodes that are to run them, or run
// them and are to run others. They share with the newest one what has not changed since.
const maxRecalled = 8

// errNotGiven is a revision of which nodes can't be given what it was.
var errNotGiven = errors.New("secrets have been taken out of what the revision was: commit a rollback to it instead")

// recalled is a version from the history.
type recalled struct {
	version *Version
	used    time.Time
}

// VersionAt returns the version of any revision that the history has, of the epoch in force: from memory, or by undoing
// what came later, once for all who ask. It is *store.NotFoundError or *store.PrunedError for one that is not there.
func (c *Catalog) VersionAt(ctx context.Context, epoch string, revision uint32) (*Version, error) {
	if v := c.remembered(epoch, revision); v != nil {
		return v, nil
	}
	now := c.Current()
	if now == nil || now.Epoch != epoch || revision == 0 || revision > now.Revision {
		return nil, &store.NotFoundError{Number: revision}
	}
	if err := c.recalls.take(ctx); err != nil {
		return nil, err
	}
	defer c.recalls.leave()
	if v := c.remembered(epoch, revision); v != nil {
		return v, nil
	}
	conf, err := c.ConfigAt(ctx, revision)
	if err != nil {
		return nil, err
	}
	r, err := c.store.Revision(ctx, revision)
	if err != nil {
		return nil, err
	}
	if conf.Purged() {
		return nil, errNotGiven
	}
	// AllowedShrink is that of the newest one: what it allowed before this one is not known any more.
	v := &Version{Epoch: epoch, Revision: revision, Config: conf, CommittedAt: r.At, RollbackOf: r.RollbackOf,
		AllowShrink: r.AllowShrink, AllowedShrink: min(now.AllowedShrink, revision)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current.Load().Epoch != epoch {
		return nil, &store.NotFoundError{Number: revision}
	}
	if len(c.recalled) >= maxRecalled {
		oldest := slices.MinFunc(c.recalled, func(a, b *recalled) int { return a.used.Compare(b.used) })
		c.recalled = slices.DeleteFunc(c.recalled, func(r *recalled) bool { return r == oldest })
	}
	c.recalled = append(c.recalled, &recalled{v, time.Now()})
	return v, nil
}

// remembered returns a version that is in memory, or nil.
func (c *Catalog) remembered(epoch string, revision uint32) *Version {
	if v := c.At(epoch, revision); v != nil {
		return v
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.recalled {
		if r.version.Epoch == epoch && r.version.Revision == revision {
			r.used = time.Now()
			return r.version
		}
	}
	return nil
}

// With returns a version in memory that has the resources of a kind with a hash, the newest one if there are many; nil:
// there is none.
func (c *Catalog) With(k config.Kind, hash [32]byte) *Version {
	c.mu.Lock()
	versions := slices.Clone(c.kept)
	slices.Reverse(versions)
	for _, r := range c.recalled {
		versions = append(versions, r.version)
	}
	c.mu.Unlock()
	for _, v := range versions { // without mu: hashes take time
		if v.Config.HashOf(k) == hash {
			return v
		}
	}
	return nil
}
