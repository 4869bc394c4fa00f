package multiset

import (
	"crypto/sha256"
	"testing"

	"pgregory.net/rapid"
)

// TestHash compares sets that came about by other ways: the hash is that of the content.
func TestHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		elements := rapid.SliceOf(rapid.String()).Draw(t, "elements")
		others := rapid.SliceOf(rapid.String()).Draw(t, "others")
		var one, other Hash
		for _, e := range elements {
			one.Add(sha256.Sum256([]byte(e)))
		}
		for _, e := range append(others, rapid.Permutation(elements).Draw(t, "another order")...) {
			other.Add(sha256.Sum256([]byte(e)))
		}
		if same := one.Sum() == other.Sum(); same != (len(others) == 0) {
			t.Fatalf("the same hash: %t, with %d elements more", same, len(others))
		}
		var joined, more Hash
		for _, e := range others {
			more.Add(sha256.Sum256([]byte(e)))
		}
		joined.Join(more)
		if joined.Join(one); joined.Sum() != other.Sum() {
			t.Fatal("joined sets have another hash than one set of all elements")
		}
		for _, e := range others {
			other.Remove(sha256.Sum256([]byte(e)))
		}
		if one.Sum() != other.Sum() {
			t.Fatal("the hash depends on the way")
		}
		if len(elements) == 0 && one.Sum() != [32]byte{} {
			t.Fatal("the empty set has a hash")
		}
	})
}
