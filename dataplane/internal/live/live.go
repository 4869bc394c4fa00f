// Package live keeps what middleware has that outlives snapshots: caches, sets of counters, what is refreshed in the
// background. Things are shared by key, and closed when nobody uses them any more.
//
// A user is a [Ref]. It is a user for as long as it can be reached: a snapshot reaches the steps of its middleware, and
// an exchange the snapshot that it runs on. So nothing is closed before the last exchange that might use it has ended,
// and no exchange has to count itself. That nobody reaches a Ref any more is found by the garbage collection, of which
// there is at least one in two minutes, whatever the node does.
package live

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"runtime"
	"sync"

	"gateway.internal/dataplane/internal/telemetry"
)

// Store keeps things by key. It is safe for concurrent use.
type Store struct {
	log    *slog.Logger
	panics *telemetry.Panics

	mu      sync.Mutex
	all     map[key]*thing
	closed  bool
	closing sync.WaitGroup
}

// key tells things apart: those of different types are never the same.
type key struct {
	of reflect.Type
	by any
}

// thing is one that is kept. users is the Store's.
type thing struct {
	key   key
	users int
	made  chan struct{} // closed once it is made, or could not be
	value io.Closer
	err   error
}

// NewStore returns a store. log takes what Close of a thing returns, and panics what panics in it.
func NewStore(log *slog.Logger, panics *telemetry.Panics) *Store {
	return &Store{log: log, panics: panics, all: map[key]*thing{}}
}

// Ref is one user of something that is kept. Whoever uses the value holds the Ref for as long: the value alone does not
// keep it from being closed.
type Ref[V io.Closer] struct {
	value V
	thing *thing
}

// Value returns what is kept.
func (r *Ref[V]) Value() V { return r.value }

// Keep returns a new user of what is kept by a key, and makes it where nothing is. Things of different types never
// share a key. Where create fails, or panics, nothing is kept, and the next call tries again. Close is called once, on
// a goroutine of its own, after the last user has gone. A nil store keeps nothing: whoever asks gets something of its
// own, which is not closed.
func Keep[K comparable, V io.Closer](s *Store, by K, create func() (V, error)) (*Ref[V], error) {
	if s == nil {
		v, err := create()
		return &Ref[V]{value: v}, err
	}
	t, first, err := s.use(key{reflect.TypeFor[V](), by})
	if err != nil {
		return nil, err
	}
	if first {
		t.value, t.err = created(s, create)
		close(t.made)
	}
	if <-t.made; t.err != nil {
		s.leave(t)
		return nil, t.err
	}
	r := &Ref[V]{t.value.(V), t}
	runtime.AddCleanup(r, s.leave, t)
	return r, nil
}

// created makes a panic of create an error.
func created[V io.Closer](s *Store, create func() (V, error)) (v V, err error) {
	defer func() {
		if r := recover(); r != nil {
			s.panics.Contained("making what a middleware keeps", r)
			err = fmt.Errorf("making what it keeps panicked: %v", r)
		}
	}()
	return create()
}

// use counts a user. first tells that it has to make the thing.
func (s *Store) use(k key) (t *thing, first bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, errors.New("the node is stopping")
	}
	if t = s.all[k]; t == nil || t.failed() {
		t, first = &thing{key: k, made: make(chan struct{})}, true
		s.all[k] = t
	}
	t.users++
	return t, first, nil
}

// failed reports whether a thing could not be made.
func (t *thing) failed() bool {
	select {
	case <-t.made:
		return t.err != nil
	default:
		return false
	}
}

// leave is called when a user has gone.
func (s *Store) leave(t *thing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.users--; t.users > 0 || s.closed {
		return
	}
	if s.all[t.key] == t {
		delete(s.all, t.key)
	}
	if t.err == nil {
		s.closing.Go(func() { s.end(t) })
	}
}

// end closes a thing that nobody uses.
func (s *Store) end(t *thing) {
	defer func() {
		if r := recover(); r != nil {
			s.panics.Contained("closing what a middleware kept", r)
		}
	}()
	if err := t.value.Close(); err != nil {
		s.log.Error("what a middleware kept could not be closed", "type", t.key.of.String(), "error", err.Error())
	}
}

// Close closes all that is kept, whoever uses it, and waits for what is being closed. It is for the node's end.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	for _, t := range s.all {
		s.closing.Go(func() {
			if <-t.made; t.err == nil {
				s.end(t)
			}
		})
	}
	s.all = nil
	s.mu.Unlock()
	s.closing.Wait()
}

// Len returns how many things are kept.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}
