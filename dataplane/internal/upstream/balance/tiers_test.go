package balance

import (
	"fmt"
	"math"
	"sync"
	"testing"

	"gateway.internal/shared/keyhash"
)

// tiered returns targets of tiers, as many of each as are said, some of them down.
func tiered(tiers ...[2]int) []Target {
	var ts []Target
	for number, t := range tiers {
		for i := range t[0] {
			target := Target{State: &State{}, Weight: 1, Tier: uint16(number), Key: fmt.Sprint(number, "-", i)}
			target.State.SetHealthy(i >= t[1])
			ts = append(ts, target)
		}
	}
	return ts
}

// TestSpillOver has Envoy's examples of priority levels (factor 1.4, panic threshold 50 %), and others.
func TestSpillOver(t *testing.T) {
	for _, c := range []struct {
		name  string
		set   Settings
		tiers [][2]int // targets, and how many of them are down
		want  []float64
	}{
		{"all are healthy", Settings{}, [][2]int{{10, 0}, {10, 0}}, []float64{1, 0}},
		{"72 % are", Settings{}, [][2]int{{100, 28}, {100, 0}}, []float64{1, 0}},
		{"71 % are", Settings{}, [][2]int{{100, 29}, {100, 0}}, []float64{0.994, 0.006}},
		{"50 % are", Settings{}, [][2]int{{100, 50}, {100, 0}}, []float64{0.7, 0.3}},
		{"25 % are", Settings{}, [][2]int{{100, 75}, {100, 0}}, []float64{0.35, 0.65}},
		{"none of the first is", Settings{}, [][2]int{{4, 4}, {4, 0}, {4, 0}}, []float64{0, 1, 0}},
		{"both lack", Settings{}, [][2]int{{100, 75}, {100, 75}}, []float64{0.5, 0.5}},
		{"the third takes what two lack", Settings{}, [][2]int{{100, 75}, {100, 75}, {100, 0}}, []float64{0.35, 0.35, 0.3}},
		{"a factor of 1", Settings{Overprovisioning: 1}, [][2]int{{10, 1}, {10, 0}}, []float64{0.9, 0.1}},
		{"panic in the first", Settings{Panic: 0.5}, [][2]int{{100, 90}, {100, 70}}, []float64{0.25, 0.75}},
		{"all panic", Settings{Panic: 0.5}, [][2]int{{10, 10}, {30, 30}}, []float64{0.25, 0.75}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, kind := range []string{"round_robin", "least_connections", "random", "consistent_hash"} {
				ts := tiered(c.tiers...)
				c.set.Kind, c.set.TableSize = kind, 1009
				b := New(c.set, ts, nil)
				got := make([]float64, len(c.tiers))
				const n = 5000
				for k := range n {
					got[ts[b.Pick(Choice{Hash: keyhash.Mix(uint64(k)), Keyed: kind == "consistent_hash"})].Tier] += 1.0 / n
				}
				for tier, want := range c.want {
					if math.Abs(got[tier]-want) > 0.03 || want == 0 && got[tier] > 0 {
						t.Errorf("%s: shares are %.3f instead of %.3f", kind, got, c.want)
						break
					}
				}
			}
		})
	}
}

// TestPanic: below the threshold all targets of the tier get requests alike, above it the healthy ones only.
func TestPanic(t *testing.T) {
	for _, kind := range allKinds {
		for _, c := range []struct {
			threshold float64
			down      int
			want      int // targets that get requests; 0: there is none to choose
		}{
			{0.5, 5, 5}, {0.5, 6, 10}, {0.5, 10, 10}, {0.3, 6, 4}, {0.9, 2, 8}, {0, 9, 1}, {0, 10, 0},
		} {
			ts := tiered([2]int{10, c.down})
			b := New(Settings{Kind: kind, Panic: c.threshold, TableSize: 1009}, ts, nil)
			got := map[int]int{}
			for k := range 2000 {
				if i := b.Pick(Choice{Hash: keyhash.Mix(uint64(k)), Keyed: k%2 == 0}); i >= 0 {
					got[i]++
				}
			}
			if len(got) != c.want {
				t.Errorf("%s: with %d of 10 down and a threshold of %g, %d get requests instead of %d",
					kind, c.down, c.threshold, len(got), c.want)
			}
			for i, n := range got {
				if mean := 2000 / c.want; n < mean/2 || n > mean*2 {
					t.Errorf("%s: with %d of 10 down and a threshold of %g, %d gets %d", kind, c.down, c.threshold, i, n)
				}
			}
		}
	}
}

// TestOtherTiersAreTried: a request that was sent to all of a tier goes to the next one before it goes to the same
// again.
func TestOtherTiersAreTried(t *testing.T) {
	for _, kind := range []string{"round_robin", "random", "least_connections", "consistent_hash", "peak_ewma"} {
		ts := tiered([2]int{2, 0}, [2]int{2, 1}, [2]int{1, 0})
		b := New(Settings{Kind: kind, TableSize: 101}, ts, nil)
		var set Tried
		var order []uint16
		for range 4 {
			i := b.Pick(Choice{Tried: &set, Keyed: true, Hash: 99})
			order = append(order, ts[i].Tier)
			set.Add(ts[i].State)
		}
		for k, want := range []uint16{0, 0, 1, 2} {
			if order[k] != want {
				t.Errorf("%s: the tiers are tried as %v", kind, order)
				break
			}
		}
		if i := b.Pick(Choice{Tried: &set}); i < 0 {
			t.Errorf("%s: nothing is tried again", kind)
		}
	}
}

// TestSharesUnderContention has many pickers at once: targets get their shares all the same.
func TestSharesUnderContention(t *testing.T) {
	for _, kind := range allKinds {
		weights := []uint32{1, 2, 3, 4}
		ts := keyed(4, weights...)
		b := New(Settings{Kind: kind, TableSize: 10_007}, ts, nil)
		const pickers, each = 4, 2500
		counts := [pickers][4]int{}
		var wg sync.WaitGroup
		for p := range pickers {
			wg.Go(func() {
				for k := range each {
					i := b.Pick(Choice{Hash: keyhash.Text(string(rune(p*each + k))), Keyed: true})
					counts[p][i]++
					if kind == "least_connections" || kind == "peak_ewma" {
						continue // the others would avoid a target for as long as its picker is not run by the system
					}
					ts[i].State.Add(1)
					ts[i].State.Add(-1)
				}
			})
		}
		wg.Wait()
		var sums [4]float64
		for _, c := range counts {
			for i, n := range c {
				sums[i] += float64(n)
			}
		}
		for i := range sums {
			want := pickers * each / 10 * float64(weights[i])
			if kind == "round_robin" {
				want = pickers * each / 4
			}
			tolerance := 6 * math.Sqrt(want)
			if math.Abs(sums[i]-want) > tolerance {
				t.Errorf("%s: %v, target %d should have %.0f", kind, sums, i, want)
			}
		}
	}
}
