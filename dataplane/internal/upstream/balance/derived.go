package balance

import (
	"sync"
	"sync/atomic"
)

// derived is worked out from the health of targets. It is made when it is asked for the first time after a change, so
// that asking costs the same however many targets are down.
type derived[T any] struct {
	at     atomic.Pointer[version[T]]
	making sync.Mutex // of at
}

type version[T any] struct {
	of      *T
	changes uint64 // that it knows of
}

// known returns the value, or nil where there were changes since it was made.
func (d *derived[T]) known(changes *atomic.Uint64) *T {
	if v := d.at.Load(); v != nil && v.changes == changes.Load() {
		return v.of
	}
	return nil
}

// make makes the value anew by of. One goroutine does, and others use the last one meanwhile, if it will do.
func (d *derived[T]) make(changes *atomic.Uint64, willDo func(*T) bool, of func() *T) *T {
	if !d.making.TryLock() {
		if v := d.at.Load(); v != nil && willDo(v.of) {
			return v.of
		}
		d.making.Lock()
	}
	defer d.making.Unlock()
	if value := d.known(changes); value != nil {
		return value
	}
	v := &version[T]{changes: changes.Load()}
	v.of = of()
	d.at.Store(v)
	return v.of
}
