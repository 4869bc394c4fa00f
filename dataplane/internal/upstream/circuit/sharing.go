package circuit

import (
	"sync/atomic"
	"time"
)

// Sharer is a circuit of which others know, and that knows of others: those that nodes have of the same service.
type Sharer interface {
	// Watch has f called after each change of the state; nil: nobody. f is called on the goroutine that changes it,
	// with a lock held: it must neither wait nor use the circuit.
	Watch(f func())
	// Own tells the opening that the circuit is in because of its own results: a number above 0, and how long it is
	// still open, above 0. generation is 0 where there is none.
	Own(now time.Time) (generation uint64, left time.Duration)
	// Take opens the circuit because another one is open, until a time, and for its longest open time at most. It
	// reports whether that changed anything. Each opening is taken once. A circuit that is forced open stays so.
	Take(now, until time.Time, of Opening) bool
	// Drop ends what Take began, where the circuit is still open by that.
	Drop(now time.Time, of Opening)
}

// Opening is the opening of a circuit of another node. The zero value is none.
type Opening struct {
	// Node is an id of the node's process, and Generation what Own says there.
	Node, Generation uint64
}

// sharing is what a circuit knows of others.
type sharing struct {
	// taken is until when the circuit is open because another one is, in nanoseconds after born; 0: it is by itself.
	// It is valid while it is open.
	taken   atomic.Int64
	watch   atomic.Pointer[func()]
	takenOf Opening // the last one that was taken; the mutex of the machine protects it
}

func (s *sharing) wake() {
	if f := s.watch.Load(); f != nil {
		(*f)()
	}
}

// Watch implements Sharer.
func (s *sharing) Watch(f func()) {
	if f == nil {
		s.watch.Store(nil)
		return
	}
	s.watch.Store(&f)
}

// openUntil returns when a circuit that is open is tried again.
func (m *machine) openUntil(set *counting) int64 {
	if end := m.taken.Load(); end != 0 {
		return end
	}
	return m.opened.Load() + m.openTime(set)
}

// Own implements Sharer.
func (m *machine) Own(now time.Time) (generation uint64, left time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	word := m.word.Load()
	if State(word&3) != Opened || m.taken.Load() != 0 {
		return 0, 0
	}
	if left = time.Duration(m.openUntil(m.set.Load()) - m.at(now)); left <= 0 {
		return 0, 0
	}
	return word >> 2, left
}

// Take implements Sharer.
func (m *machine) Take(now, until time.Time, of Opening) bool {
	m.mu.Lock()
	defer m.unlock()
	at, set := m.at(now), m.set.Load()
	end := min(m.at(until), at+int64(set.MaxTimeout))
	if of == m.takenOf || end <= at {
		return false
	}
	switch State(m.word.Load() & 3) {
	case Forced:
		return false
	case Opened:
		if end <= m.openUntil(set) {
			return false
		}
		m.takenOf = of
		m.taken.Store(end)
	default:
		m.takenOf = of
		m.taken.Store(end)
		m.enter(Opened, at, OtherNode)
	}
	return true
}

// Drop implements Sharer.
func (m *machine) Drop(now time.Time, of Opening) {
	m.mu.Lock()
	defer m.unlock()
	if State(m.word.Load()&3) == Opened && m.taken.Load() != 0 && m.takenOf == of {
		m.close(m.at(now), OtherNode)
	}
}
