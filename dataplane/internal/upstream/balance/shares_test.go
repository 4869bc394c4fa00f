package balance

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestSharesAreFound compares what is found with a search among all shares, some of which are empty or of another
// order of magnitude: many of them share a section then.
func TestSharesAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shares := rapid.SliceOfN(rapid.Uint64Range(0, 3), 1, 120).Draw(t, "shares")
		for range rapid.IntRange(0, 5).Draw(t, "large ones") {
			shares[rapid.IntRange(0, len(shares)-1).Draw(t, "at")] = rapid.Uint64Range(0, 2000).Draw(t, "large")
		}
		ends := endsOf(shares)
		length := ends[len(ends)-1]
		if length == 0 {
			return
		}
		s := sharesOf(ends)
		for place := range length {
			if got, want := s.find(place), searched(ends, place); got != want {
				t.Fatalf("%d of %v is in share %d instead of %d", place, ends, got, want)
			}
		}
		if n := len(s.guide); n > 4*len(ends)+4 {
			t.Fatalf("%d sections for %d shares", n, len(ends))
		}
	})
}

func endsOf(shares []uint64) []uint64 {
	ends, sum := make([]uint64, len(shares)), uint64(0)
	for i, share := range shares {
		sum += share
		ends[i] = sum
	}
	return ends
}

func searched(ends []uint64, place uint64) int {
	return sort.Search(len(ends), func(i int) bool { return ends[i] > place })
}

// BenchmarkFind is what it costs to find a share, and which part that is of a search among all.
func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			weights := make([]uint64, n)
			for i := range weights {
				weights[i] = 1 + rand.Uint64N(1000)
			}
			s := sharesOf(endsOf(weights))
			places := make([]uint64, 4096)
			for i := range places {
				places[i] = rand.Uint64N(s.ends[n-1])
			}
			sum := 0
			found, all := time.Hour, time.Hour // the least, which nothing else on the machine has a share in
			for b.Loop() {
				begun := time.Now()
				for _, p := range places {
					sum += s.find(p)
				}
				between := time.Now()
				for _, p := range places {
					sum -= searched(s.ends, p)
				}
				found, all = min(found, between.Sub(begun)), min(all, time.Since(between))
			}
			if sum != 0 {
				b.Fatal("what is found differs")
			}
			b.ReportMetric(float64(found.Nanoseconds())/float64(len(places)), "ns/find")
			b.ReportMetric(found.Seconds()/all.Seconds(), "of-search")
		})
	}
}
