package config

import (
	"iter"
	"maps"
)

// shards is how many maps an index is split into: deriving an index copies only those that change.
const shards = 256

// index is a persistent map from strings to entries. The zero value is empty.
type index struct {
	shard [shards]map[string]*Entry
	n     int
}

func shardOf(key string) uint8 {
	// FNV-1a, folded: ids are random and names differ at their end.
	h := uint32(2166136261)
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * 16777619
	}
	return uint8(h ^ h>>8 ^ h>>16 ^ h>>24)
}

func (x *index) get(key string) *Entry { return x.shard[shardOf(key)][key] }

func (x *index) len() int { return x.n }

func (x *index) all() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, m := range x.shard {
			for _, e := range m {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// draft is an index that is being derived.
type draft struct {
	index
	own [shards]bool
}

func (x *index) derive() *draft { return &draft{index: *x} }

func (d *draft) writable(key string) map[string]*Entry {
	s := shardOf(key)
	if !d.own[s] {
		d.own[s] = true
		d.shard[s] = maps.Clone(d.shard[s])
		if d.shard[s] == nil {
			d.shard[s] = map[string]*Entry{}
		}
	}
	return d.shard[s]
}

func (d *draft) put(key string, e *Entry) {
	m := d.writable(key)
	if _, there := m[key]; !there {
		d.n++
	}
	m[key] = e
}

func (d *draft) remove(key string) {
	m := d.writable(key)
	if _, there := m[key]; there {
		d.n--
		delete(m, key)
	}
}
