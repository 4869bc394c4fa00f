package match

import (
	"maps"
	"slices"

	"gateway.internal/shared/hostname"
)

// bucket holds the rules of one path pattern, each list by Compare.
type bucket struct {
	owner *builder
	any   []*Rule
	exact map[hostname.Pattern][]*Rule
	wild  map[hostname.Pattern][]*Rule
	top   *Rule
	n     int      // number of rules
	news  *changes // while a builder is at work
}

// changes are what becomes of a bucket's rules. They are taken over all at once, since many of one pattern may come
// and go.
type changes struct {
	added []*Rule
	gone  map[*Rule]bool // of the bucket's and of added
}

// bucket returns a bucket that may be changed: k itself, a copy of it, or a new one.
func (b *builder) bucket(k *bucket) *bucket {
	switch {
	case k == nil:
		return &bucket{owner: b}
	case k.owner == b:
		return k
	}
	c := *k
	c.owner, c.news = b, nil
	return &c
}

func (k *bucket) changes(b *builder) *changes {
	if k.news == nil {
		k.news = &changes{gone: map[*Rule]bool{}}
		b.changed = append(b.changed, k)
	}
	return k.news
}

func (k *bucket) add(b *builder, r *Rule) {
	c := k.changes(b)
	k.n++
	if c.gone[r] {
		delete(c.gone, r)
		return
	}
	c.added = append(c.added, r)
}

func (k *bucket) drop(b *builder, r *Rule) {
	k.changes(b).gone[r] = true
	k.n--
}

func (k *bucket) empty() bool { return k.n == 0 }

// settle takes over what has changed. What it does not touch stays shared with the bucket that this one was copied
// from.
func (k *bucket) settle() {
	c := k.news
	k.news = nil
	var bare []*Rule
	exact, wild := map[hostname.Pattern][]*Rule{}, map[hostname.Pattern][]*Rule{}
	touched := false // those without hosts
	// place notes that the lists of r change, by the rule that is to be in them, or nil.
	place := func(r, in *Rule) {
		put := func(list []*Rule) []*Rule {
			if in != nil {
				list = append(list, in)
			}
			return list
		}
		if len(r.hosts) == 0 {
			bare, touched = put(bare), true
		}
		for _, h := range r.hosts {
			if h.Wildcard() {
				wild[h] = put(wild[h])
			} else {
				exact[h] = put(exact[h])
			}
		}
	}
	for r := range c.gone {
		place(r, nil)
	}
	for _, r := range c.added {
		if !c.gone[r] {
			place(r, r)
		}
	}
	if touched {
		k.any = c.list(k.any, bare)
	}
	k.exact, k.wild = c.lists(k.exact, exact), c.lists(k.wild, wild)
	k.top = k.findTop()
}

// lists returns lists by host with the changed ones in their places.
func (c *changes) lists(old, added map[hostname.Pattern][]*Rule) map[hostname.Pattern][]*Rule {
	if len(added) == 0 {
		return old
	}
	next := maps.Clone(old)
	if next == nil {
		next = make(map[hostname.Pattern][]*Rule, len(added))
	}
	for h, more := range added {
		if list := c.list(old[h], more); len(list) > 0 {
			next[h] = list
		} else {
			delete(next, h)
		}
	}
	return next
}

// list returns a list without the rules that are gone and with others.
func (c *changes) list(old, added []*Rule) []*Rule {
	list := make([]*Rule, 0, len(old)+len(added))
	for _, r := range old {
		if !c.gone[r] {
			list = append(list, r)
		}
	}
	list = append(list, added...)
	slices.SortFunc(list, Compare)
	return slices.Clip(list)
}

func (k *bucket) findTop() *Rule {
	var top *Rule
	offer := func(list []*Rule) {
		if len(list) > 0 && (top == nil || Compare(list[0], top) < 0) {
			top = list[0]
		}
	}
	offer(k.any)
	for _, list := range k.exact {
		offer(list)
	}
	for _, list := range k.wild {
		offer(list)
	}
	return top
}
