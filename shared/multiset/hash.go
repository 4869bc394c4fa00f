// Package multiset has a hash of a set whose elements come and go: AdHash of Bellare and Micciancio, "A New Paradigm
// for Collision-Free Hashing" (1997), over four lanes of 64 bits.
package multiset

import "encoding/binary"

// Hash is the sum of the hashes of the elements: it follows a change without reading the rest, and does not depend on
// order. It guards against mistakes, not against forgery. The zero value is that of the empty set.
type Hash struct{ lanes [4]uint64 }

// Add counts an element with a hash.
func (h *Hash) Add(element [32]byte) {
	for i := range h.lanes {
		h.lanes[i] += binary.BigEndian.Uint64(element[8*i:])
	}
}

// Remove takes an element out that was added.
func (h *Hash) Remove(element [32]byte) {
	for i := range h.lanes {
		h.lanes[i] -= binary.BigEndian.Uint64(element[8*i:])
	}
}

// Join counts the elements of another set.
func (h *Hash) Join(other Hash) {
	for i := range h.lanes {
		h.lanes[i] += other.lanes[i]
	}
}

// Sum returns the hash.
func (h Hash) Sum() (sum [32]byte) {
	for i, lane := range h.lanes {
		binary.BigEndian.PutUint64(sum[8*i:], lane)
	}
	return sum
}
