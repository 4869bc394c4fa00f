package balance

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestBeginsAtAPlace has many balancers with the same targets begin at places that are spread evenly: each target gets
// its share of the first requests, and each balancer shares a round out as if it had begun at the first.
func TestBeginsAtAPlace(t *testing.T) {
	const balancers = 240
	for _, kind := range []string{"round_robin", "weighted_round_robin", "least_connections", "consistent_hash"} {
		for name, c := range map[string]struct {
			weights []uint32
			tiers   []uint16
			want    []int // of 12
		}{
			"alike":       {[]uint32{5, 5, 5}, nil, []int{4, 4, 4}},
			"weighted":    {[]uint32{5, 4, 3}, nil, []int{5, 4, 3}},
			"long period": {[]uint32{1000, 799, 601}, nil, []int{5, 4, 3}},
			"tiers":       {[]uint32{1, 1, 1, 1}, []uint16{0, 0, 1, 1}, nil},
		} {
			ts := targets(c.weights...)
			for i := range c.tiers {
				ts[i].Tier = c.tiers[i]
			}
			if c.tiers != nil {
				ts[0].State.SetHealthy(false) // so that both tiers have a share: 70 %
				c.want = []int{0, 8, 2, 2}
			}
			want := c.want
			if kind == "round_robin" && c.tiers == nil {
				want = []int{4, 4, 4}
			}
			first := make([]int, len(ts))
			for n := range uint64(balancers) {
				b := New(Settings{Kind: kind, TableSize: 101, Begin: n * (math.MaxUint64 / balancers)}, ts, nil)
				first[b.Pick(Choice{})]++
			}
			for i := range first {
				if d := first[i] - want[i]*balancers/12; d > balancers/8 || d < -balancers/8 {
					t.Errorf("%s, %s: the first requests go to %v, want %v of 12", kind, name, first, want)
					break
				}
			}
			if c.tiers != nil {
				continue
			}
			got, rounds := make([]int, len(ts)), 200
			b := New(Settings{Kind: kind, TableSize: 101, Begin: rand.Uint64()}, ts, nil)
			for range 12 * rounds {
				got[b.Pick(Choice{})]++
			}
			for i := range got {
				if d := got[i] - want[i]*rounds; d > rounds || d < -rounds {
					t.Errorf("%s, %s: a round goes to %v, want %v of 12", kind, name, got, want)
					break
				}
			}
		}
	}
}
