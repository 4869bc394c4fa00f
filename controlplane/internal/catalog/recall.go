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

// maxNotGiven is of how many revisions it is known that they can't be given.
const maxNotGiven = 1000

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
	if v, known, err := c.remembered(epoch, revision); known {
		return v, err
	}
	now := c.Current()
	if now == nil || now.Epoch != epoch || revision == 0 || revision > now.Revision {
		return nil, &store.NotFoundError{Number: revision}
	}
	if err := c.recalls.take(ctx); err != nil {
		return nil, err
	}
	defer c.recalls.leave()
	if v, known, err := c.remembered(epoch, revision); known {
		return v, err
	}
	for {
		purges := c.Purges()
		v, err := c.recall(ctx, now, revision)
		if err != nil && !errors.Is(err, errNotGiven) {
			return nil, err
		}
		current, err := c.remember(v, now.Epoch, revision, purges)
		if err != nil {
			return nil, err
		}
		if current {
			return v, nil
		}
	}
}

// recall reads a version of the epoch of now from the history.
func (c *Catalog) recall(ctx context.Context, now *Version, revision uint32) (*Version, error) {
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
	return &Version{Epoch: now.Epoch, Revision: revision, Config: conf, CommittedAt: r.At, RollbackOf: r.RollbackOf,
		AllowShrink: r.AllowShrink, AllowedShrink: min(now.AllowedShrink, revision)}, nil
}

// remember keeps a version that was recalled after so many purges; nil: it can't be given. It is not current where
// there was another purge meanwhile: it may have the secrets that were taken out.
func (c *Catalog) remember(v *Version, epoch string, revision uint32, purges int64) (current bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.current.Load().Epoch != epoch:
		return false, &store.NotFoundError{Number: revision}
	case c.purges != purges:
		return false, nil
	case v == nil:
		if c.notGiven == nil || len(c.notGiven) >= maxNotGiven {
			c.notGiven = map[uint32]bool{}
		}
		c.notGiven[revision] = true
		return false, errNotGiven
	}
	if len(c.recalled) >= maxRecalled {
		oldest := slices.MinFunc(c.recalled, func(a, b *recalled) int { return a.used.Compare(b.used) })
		c.recalled = slices.DeleteFunc(c.recalled, func(r *recalled) bool { return r == oldest })
	}
	c.recalled = append(c.recalled, &recalled{v, time.Now()})
	return true, nil
}

// remembered returns a version that is in memory, or that it is known that it can't be given.
func (c *Catalog) remembered(epoch string, revision uint32) (v *Version, known bool, err error) {
	if v := c.At(epoch, revision); v != nil {
		return v, true, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.recalled {
		if r.version.Epoch == epoch && r.version.Revision == revision {
			r.used = time.Now()
			return r.version, true, nil
		}
	}
	if v := c.Current(); c.notGiven[revision] && v.Epoch == epoch {
		return nil, true, errNotGiven
	}
	return nil, false, nil
}

// forgetRecalled forgets what was recalled, and what can't be given; the caller holds mu.
func (c *Catalog) forgetRecalled() { c.recalled, c.notGiven = nil, nil }

// Purges counts the purges of secrets from the history, as far as this process has seen them: of versions that it gave
// before the last one, nodes must not be sent anything any more.
func (c *Catalog) Purges() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.purges
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
