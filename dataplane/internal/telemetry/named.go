package telemetry

import (
	"runtime"
	"sync"
	"weak"
)

// Named keeps one C for each key for as long as somebody holds it: parts of snapshots that have the same name share
// their counters, and what no snapshot has any more is let go of, with its series. The zero value is ready. It is safe
// for concurrent use.
type Named[K comparable, C any] struct {
	mu  sync.Mutex
	all map[K]weak.Pointer[C]
}

// Get returns the one of a key.
func (n *Named[K, C]) Get(k K) *C {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.all[k].Value(); c != nil {
		return c
	}
	c := new(C)
	if n.all == nil {
		n.all = map[K]weak.Pointer[C]{}
	}
	n.all[k] = weak.Make(c)
	runtime.AddCleanup(c, n.forget, k)
	return c
}

// forget takes a key away, unless there is another one for it by now.
func (n *Named[K, C]) forget(k K) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all[k].Value() == nil {
		delete(n.all, k)
	}
}

// Each calls f with all.
func (n *Named[K, C]) Each(f func(K, *C)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, p := range n.all {
		if c := p.Value(); c != nil {
			f(k, c)
		}
	}
}

// Len returns how many keys are kept.
func (n *Named[K, C]) Len() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.all)
}
