package config

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"sync"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/hamt"
	"gateway.internal/shared/match"
	"gateway.internal/shared/multiset"
)

// Config is an immutable, indexed set of resources. It is safe for concurrent use. One that is derived from another
// shares what did not change with it.
type Config struct {
	byID   [lastKind + 1]ids
	byName [lastKind + 1]names
	hash   [lastKind + 1]multiset.Hash // of the resources' hashes
	// unknown are the resources with fields that this build does not know.
	unknown places
	claims  claims
	// purged says that there may be a resource that secrets have been taken out of.
	purged bool

	table struct {
		sync.Mutex
		built *match.Table
		// Until the table is built: the configuration that this one was derived from, when that has a table, and how.
		parent  *Config
		changes []entryChange
	}
}

// entryChange is a change of the index: a nil side is absent.
type entryChange struct{ before, after *Entry }

// Empty returns a configuration without resources.
func Empty() *Config {
	c := &Config{}
	c.table.built = match.Compile(nil)
	return c
}

// Len returns the number of resources of a kind.
func (c *Config) Len(k Kind) int { return c.byID[k].Len() }

// ByID returns a resource, or nil.
func (c *Config) ByID(k Kind, id string) *Entry { return c.byID[k].Get(id) }

// ByName returns a resource, or nil.
func (c *Config) ByName(k Kind, name string) *Entry { return c.byName[k].Get(name) }

// Lookup returns a resource by id or, failing that, by name; or nil.
func (c *Config) Lookup(k Kind, idOrName string) *Entry {
	if e := c.ByID(k, idOrName); e != nil {
		return e
	}
	return c.ByName(k, idOrName)
}

// All yields the resources of a kind in no order.
func (c *Config) All(k Kind) iter.Seq[*Entry] { return c.byID[k].All() }

// Sorted returns the resources of a kind by name.
func (c *Config) Sorted(k Kind) []*Entry {
	list := slices.AppendSeq(make([]*Entry, 0, c.Len(k)), c.All(k))
	slices.SortFunc(list, func(a, b *Entry) int { return cmp.Compare(a.Name(), b.Name()) })
	return list
}

// Hash identifies the content: it is that of the set of the resources' hashes, so that it follows a change without
// reading the rest and does not depend on order. It guards against mistakes, not against forgery.
func (c *Config) Hash() [32]byte { return c.HashOf(Kinds()...) }

// HashOf is Hash of the resources of some kinds.
func (c *Config) HashOf(kinds ...Kind) [32]byte {
	var sum multiset.Hash
	for _, k := range kinds {
		sum.Join(c.hash[k])
	}
	return sum.Sum()
}

// Multiset is what Hash is the sum of, to be joined with that of other resources.
func (c *Config) Multiset() (sum multiset.Hash) {
	for _, of := range c.hash {
		sum.Join(of)
	}
	return sum
}

// Purged reports whether secrets have been taken out of a resource, or of one that it had before, since it was
// committed.
func (c *Config) Purged() bool { return c.purged }

// Change is one committed difference: Before nil is a creation, After nil a removal.
type Change struct {
	Kind          Kind
	Before, After *Entry
}

// Purged reports whether secrets have been taken out of the change.
func (c Change) Purged() bool {
	return c.Before != nil && c.Before.Purged() || c.After != nil && c.After.Purged()
}

// Messages returns the resource before and after the change; nil where it is not there.
func (c Change) Messages() (before, after Message) {
	if c.Before != nil {
		before = c.Before.Message
	}
	if c.After != nil {
		after = c.After.Message
	}
	return before, after
}

// entry returns the newer side.
func (c Change) entry() *Entry {
	if c.After != nil {
		return c.After
	}
	return c.Before
}

// Name returns the name of the resource that changed.
func (c Change) Name() string { return c.entry().Name() }

// ID returns the id of the resource that changed.
func (c Change) ID() string { return c.entry().ID() }

// With applies changes that were validated when they were committed. It fails only on the removal of what is not there.
func (c *Config) With(changes []Change) (*Config, error) {
	list := make([]entryChange, 0, len(changes))
	for _, ch := range changes {
		ec := entryChange{c.ByID(ch.Kind, ch.ID()), ch.After}
		if ec.before == nil && ec.after == nil {
			return nil, fmt.Errorf("remove %s %s: it is not there", ch.Kind, ch.ID())
		}
		list = append(list, ec)
	}
	return c.with(list), nil
}

// WithEntries is With for what comes over the stream. A resource that is named twice is an error.
func (c *Config) WithEntries(upserts []*Entry, removals []*streamv1.ResourceRef) (*Config, error) {
	list := make([]entryChange, 0, len(upserts)+len(removals))
	type key struct {
		kind Kind
		id   string
	}
	named := make(map[key]bool, cap(list))
	add := func(k Kind, id string, ch entryChange) error {
		if named[key{k, id}] {
			return fmt.Errorf("change %s %s: it is named twice", k, id)
		}
		named[key{k, id}] = true
		list = append(list, ch)
		return nil
	}
	for _, ref := range removals {
		k, err := KindOf(ref.GetKind())
		if err != nil {
			return nil, err
		}
		e := c.ByID(k, ref.GetId())
		if e == nil {
			return nil, fmt.Errorf("remove %s %s: it is not there", k, ref.GetId())
		}
		if err := add(k, ref.GetId(), entryChange{before: e}); err != nil {
			return nil, err
		}
	}
	for _, e := range upserts {
		if err := add(e.Kind, e.ID(), entryChange{c.ByID(e.Kind, e.ID()), e}); err != nil {
			return nil, err
		}
	}
	return c.with(list), nil
}

func (c *Config) with(changes []entryChange) *Config {
	next := &Config{byID: c.byID, byName: c.byName, hash: c.hash, purged: c.purged}
	next.unknown, next.claims = unknownAfter(c.unknown, changes), c.claims.after(changes)
	var ids [lastKind + 1]*hamt.Draft[*Entry, byID]
	var names [lastKind + 1]*hamt.Draft[*Entry, byName]
	for _, ch := range changes {
		k := ch.kind()
		if ids[k] == nil {
			ids[k], names[k] = c.byID[k].Draft(), c.byName[k].Draft()
		}
		if ch.before != nil {
			ids[k].Remove(ch.before.ID())
			if names[k].Get(ch.before.Name()) == ch.before {
				names[k].Remove(ch.before.Name())
			}
			next.hash[k].Remove(ch.before.hash)
		}
	}
	for _, ch := range changes {
		if ch.after != nil {
			k := ch.kind()
			next.purged = next.purged || ch.after.purged
			ids[k].Put(ch.after)
			names[k].Put(ch.after)
			next.hash[k].Add(ch.after.hash)
		}
	}
	for k := range ids {
		if ids[k] != nil {
			next.byID[k], next.byName[k] = ids[k].Map(), names[k].Map()
		}
	}
	if ids[Route] == nil {
		next.table.built = c.builtTable() // it is of routes alone
	}
	// Without a table the chain of parents would have no end where nobody asks for tables.
	if next.table.built == nil && c.builtTable() != nil {
		next.table.parent, next.table.changes = c, changes
	}
	return next
}

// unknownAfter is what entries with unknown fields become by changes.
func unknownAfter(unknown places, changes []entryChange) places {
	var draft *hamt.Draft[*Entry, byPlace]
	for _, ch := range changes {
		was, is := ch.before != nil && ch.before.unknown != nil, ch.after != nil && ch.after.unknown != nil
		if draft == nil && (was || is) {
			draft = unknown.Draft()
		}
		if was {
			draft.Remove(byPlace{}.Of(ch.before))
		}
		if is {
			draft.Put(ch.after)
		}
	}
	if draft == nil {
		return unknown
	}
	return draft.Map()
}

// Unknown returns the resources with fields that this build does not know, by kind and name.
func (c *Config) Unknown() []*Entry {
	return slices.SortedFunc(c.unknown.All(), func(a, b *Entry) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name(), b.Name()))
	})
}

func (ch entryChange) kind() Kind {
	if ch.after != nil {
		return ch.after.Kind
	}
	return ch.before.Kind
}

// Table returns the table of the enabled routes; each rule's Value is the route's *Entry. It is built at the first
// call, from the table of the configuration that this one was derived from when that has one.
func (c *Config) Table() *match.Table {
	c.table.Lock()
	defer c.table.Unlock()
	if c.table.built != nil {
		return c.table.built
	}
	if parent := c.table.parent; parent != nil {
		var remove []string
		var add []*match.Rule
		for _, ch := range c.table.changes {
			if ch.kind() != Route {
				continue
			}
			if ch.before != nil {
				remove = append(remove, ch.before.ID())
			}
			if r := enabledRule(ch.after); r != nil {
				add = append(add, r)
			}
		}
		c.table.built = parent.Table().With(remove, add)
	} else {
		rules := make([]*match.Rule, 0, c.Len(Route))
		for e := range c.All(Route) {
			if r := enabledRule(e); r != nil {
				rules = append(rules, r)
			}
		}
		c.table.built = match.Compile(rules)
	}
	c.table.parent, c.table.changes = nil, nil
	return c.table.built
}

// builtTable returns the table, nil where it has not been built.
func (c *Config) builtTable() *match.Table {
	c.table.Lock()
	defer c.table.Unlock()
	return c.table.built
}

func enabledRule(e *Entry) *match.Rule {
	if e == nil {
		return nil
	}
	route := e.Message.(*configv1.Route)
	if route.Enabled != nil && !route.GetEnabled() {
		return nil
	}
	r, errs := match.Parse(route)
	if len(errs) > 0 {
		return nil
	}
	r.Value = e
	return r
}

// Diff returns what leads from a to b, by kind and name. Resources of the same hash are the same.
func Diff(a, b *Config) []Change { return DiffOf(a, b, Kinds()...) }

// DiffOf is Diff of the resources of some kinds. What a and b share costs nothing.
func DiffOf(a, b *Config, kinds ...Kind) []Change {
	var changes []Change
	for _, k := range kinds {
		start := len(changes)
		hamt.Diff(a.byID[k], b.byID[k], func(before, after *Entry) {
			if before == nil || after == nil || before.hash != after.hash {
				changes = append(changes, Change{Kind: k, Before: before, After: after})
			}
		})
		slices.SortFunc(changes[start:], func(x, y Change) int {
			return cmp.Or(cmp.Compare(x.Name(), y.Name()), cmp.Compare(x.ID(), y.ID()))
		})
	}
	return changes
}

// Invert returns the changes that undo these, in the reverse order.
func Invert(changes []Change) []Change {
	inverse := make([]Change, 0, len(changes))
	for _, ch := range slices.Backward(changes) {
		inverse = append(inverse, Change{Kind: ch.Kind, Before: ch.After, After: ch.Before})
	}
	return inverse
}
