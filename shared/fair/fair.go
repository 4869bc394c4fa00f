// Package fair shares out places among those who want them, so that nobody gets all. It knows neither what a place is
// nor who wants it.
package fair

// Share is a number of places. One holder gets as many as are free then ("Dynamic Queue Length Thresholds for
// Shared-Memory Packet Switches", Choudhury and Hahne, 1998): half where it is alone, a third each where two take all
// that they can get. So there is one left for every other holder. It is not safe for concurrent use.
type Share[K comparable] struct {
	most, total int
	held        map[K]int
}

// New returns most places, all of them free.
func New[K comparable](most int) *Share[K] { return &Share[K]{most: most, held: map[K]int{}} }

// Take takes a place for a holder, which Give gives back; false: there is none for it.
func (s *Share[K]) Take(k K) bool {
	if s.held[k] >= s.most-s.total {
		return false
	}
	s.total++
	s.held[k]++
	return true
}

// Give gives a place back that a holder has.
func (s *Share[K]) Give(k K) {
	s.total--
	if s.held[k]--; s.held[k] == 0 {
		delete(s.held, k)
	}
}

// Total returns how many places are taken.
func (s *Share[K]) Total() int { return s.total }
