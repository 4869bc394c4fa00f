package consumer

import (
	"iter"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/hamt"
	"gateway.internal/shared/multiset"
)

type (
	byID   struct{}
	byName struct{}
)

// Of implements hamt.Keyer.
func (byID) Of(c *Consumer) string { return c.id }

// Of implements hamt.Keyer.
func (byName) Of(c *Consumer) string { return c.name }

// Set is the consumers of a revision. It is immutable, and safe for concurrent use. The zero value has none.
type Set struct {
	ids     hamt.Map[*Consumer, byID]
	names   hamt.Map[*Consumer, byName]
	unknown hamt.Map[*Consumer, byID] // those with fields that this build does not know
	creds   sets
	hash    multiset.Hash
	lists   lists
}

// Len returns the number of consumers.
func (s *Set) Len() int { return s.ids.Len() }

// ByID returns a consumer, or nil. It does not allocate.
func (s *Set) ByID(id string) *Consumer { return s.ids.Get(id) }

// ByName returns a consumer, or nil. It does not allocate.
func (s *Set) ByName(name string) *Consumer { return s.names.Get(name) }

// All yields the consumers in no order.
func (s *Set) All() iter.Seq[*Consumer] { return s.ids.All() }

// Unknown yields those with fields that this build does not know, in no order.
func (s *Set) Unknown() iter.Seq[*Consumer] { return s.unknown.All() }

// Hash identifies the content, as config.Config.HashOf does.
func (s *Set) Hash() [32]byte { return s.hash.Sum() }

// Multiset is what Hash is the sum of.
func (s *Set) Multiset() multiset.Hash { return s.hash }

// Draft is a set that is being changed. Of the drafts of sets that were derived from each other one at a time may be
// used.
type Draft struct {
	ids     *hamt.Draft[*Consumer, byID]
	names   *hamt.Draft[*Consumer, byName]
	unknown *hamt.Draft[*Consumer, byID]
	creds   drafts
	hash    multiset.Hash
	lists   lists
	secrets bool
}

// Draft returns a draft that begins as the set.
func (s *Set) Draft() *Draft {
	d := &Draft{ids: s.ids.Draft(), names: s.names.Draft(), unknown: s.unknown.Draft(), creds: s.creds.draft(),
		hash: s.hash, lists: s.lists}
	if d.lists == nil {
		d.lists = lists{}
	}
	return d
}

// Put puts a consumer in the place of the one with its id. It keeps none of the resource's memory. An error leaves the
// draft as it was.
func (d *Draft) Put(r *streamv1.Resource) error {
	c, hash, err := read(r, d.lists.same)
	if err != nil {
		return err
	}
	d.forget(d.ids.Put(c))
	d.names.Put(c)
	d.creds.put(c)
	if c.Unknown() != nil {
		d.unknown.Put(c)
	}
	d.hash.Add(hash)
	return nil
}

// Remove removes a consumer, and reports whether there was one.
func (d *Draft) Remove(id string) bool {
	c := d.ids.Remove(id)
	d.forget(c)
	return c != nil
}

// forget takes what was put by id out of the rest.
func (d *Draft) forget(c *Consumer) {
	if c == nil {
		return
	}
	if d.names.Get(c.name) == c {
		d.names.Remove(c.name)
	}
	d.creds.remove(c)
	if c.Unknown() != nil {
		d.unknown.Remove(c.id)
	}
	d.hash.Remove(c.hash())
	d.secrets = d.secrets || c.hasSecrets()
}

// LostSecrets reports whether consumers are gone, or have changed, that had secrets.
func (d *Draft) LostSecrets() bool { return d.secrets }

// Set returns what the draft has come to, which is not to be changed afterwards.
func (d *Draft) Set() *Set {
	return &Set{ids: d.ids.Map(), names: d.names.Map(), unknown: d.unknown.Map(), creds: d.creds.sets(), hash: d.hash,
		lists: d.lists}
}
