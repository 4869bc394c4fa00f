package etcd

import (
	"cmp"
	"maps"
	"slices"

	"gateway.internal/controlplane/internal/discovery"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// event is what became of one key.
type event struct {
	key      string
	revision int64
	found    *found // nil: it was deleted, or it is bad
	bad      error
}

// batch is events that belong together. A whole one is everything that there is.
type batch struct {
	whole  bool
	events []event
}

// index knows all registrations, by name, and which services want which: one goroutine's.
type index struct {
	listed bool                         // everything was read at least once
	names  map[string]string            // key to name
	byName map[string]map[string]*found // name to key to registration
	bad    map[string]int64             // keys that can't be understood, with the revision that was reported

	queries map[string]discovery.Query // by service id
	askers  map[string]map[string]bool // name to ids of the services that want it
	pending map[string]bool            // ids of services to be answered
}

func newIndex() *index {
	x := &index{queries: map[string]discovery.Query{}, askers: map[string]map[string]bool{}, pending: map[string]bool{}}
	x.clear()
	return x
}

func (x *index) clear() {
	x.names, x.byName = map[string]string{}, map[string]map[string]*found{}
}

// follow takes over who wants what; those that are new or want something else are to be answered.
func (x *index) follow(queries map[string]discovery.Query) {
	for id, old := range x.queries {
		if queries[id] != old {
			delete(x.askers[nameOf(old)], id)
			if len(x.askers[nameOf(old)]) == 0 {
				delete(x.askers, nameOf(old))
			}
			delete(x.pending, id)
		}
	}
	for id, q := range queries {
		if x.queries[id] == q {
			continue
		}
		if x.askers[nameOf(q)] == nil {
			x.askers[nameOf(q)] = map[string]bool{}
		}
		x.askers[nameOf(q)][id] = true
		x.pending[id] = true
	}
	x.queries = queries
}

// nameOf returns the name of the registrations that a service wants.
func nameOf(q discovery.Query) string {
	return cmp.Or(q.Discovery.GetEtcd().GetService(), q.ServiceName)
}

// apply takes over a batch and returns the events that are bad and were not known to be.
func (x *index) apply(b batch) []event {
	before := x.bad
	if b.whole {
		x.listed = true
		x.clear()
		x.bad = map[string]int64{}
		for id := range x.queries {
			x.pending[id] = true
		}
	}
	if x.bad == nil {
		x.bad = map[string]int64{}
	}
	var news []event
	for _, e := range b.events {
		x.remove(e.key)
		switch {
		case e.bad != nil:
			if before[e.key] != e.revision {
				news = append(news, e)
			}
			x.bad[e.key] = e.revision
		case e.found != nil:
			name := e.found.name
			if x.byName[name] == nil {
				x.byName[name] = map[string]*found{}
			}
			x.byName[name][e.key] = e.found
			x.names[e.key] = name
			x.touch(name)
		}
	}
	return news
}

func (x *index) remove(key string) {
	delete(x.bad, key)
	name, ok := x.names[key]
	if !ok {
		return
	}
	delete(x.names, key)
	delete(x.byName[name], key)
	if len(x.byName[name]) == 0 {
		delete(x.byName, name)
	}
	x.touch(name)
}

func (x *index) touch(name string) {
	for id := range x.askers[name] {
		x.pending[id] = true
	}
}

// answer returns the endpoints of all queries that are to be answered; nil when there is nothing to say.
func (x *index) answer() map[discovery.Query][]*configv1.Endpoint {
	if !x.listed || len(x.pending) == 0 {
		return nil
	}
	answers := make(map[discovery.Query][]*configv1.Endpoint, len(x.pending))
	for id := range x.pending {
		answers[x.queries[id]] = x.endpoints(x.queries[id])
	}
	x.pending = map[string]bool{}
	return answers
}

// endpoints returns those that a service wants, newest registration first: of two with one address the newer one
// counts.
func (x *index) endpoints(q discovery.Query) []*configv1.Endpoint {
	all := x.byName[nameOf(q)]
	keys := slices.Collect(maps.Keys(all))
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(all[b].revision, all[a].revision), cmp.Compare(a, b))
	})
	var out []*configv1.Endpoint
	for _, k := range keys {
		if hasAll(all[k].tags, q.Discovery.GetEtcd().GetTags()) {
			out = append(out, all[k].endpoint)
		}
	}
	return out
}

func hasAll(have, want []string) bool {
	for _, t := range want {
		if !slices.Contains(have, t) {
			return false
		}
	}
	return true
}
