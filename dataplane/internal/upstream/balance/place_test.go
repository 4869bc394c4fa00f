package balance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// TestChangesKeepThePlace makes two picks between changes of every kind: all targets get their share all the same.
func TestChangesKeepThePlace(t *testing.T) {
	four := targets(1, 1, 1, 1)
	weighted := func(weights ...uint32) []Target {
		ts := slices.Clone(four)
		for i := range ts {
			ts[i].Weight = weights[i]
		}
		return ts
	}
	fifth := targets(1)[0]
	reversed := slices.Clone(four)
	slices.Reverse(reversed)
	for name, c := range map[string]struct {
		kind   string
		change func(n int) []Target
		want   []int
		off    int
	}{
		"another target that gets nothing comes and goes": {"round_robin", func(n int) []Target {
			return append(slices.Clone(four), Target{State: &State{}, Weight: 0})[:4+n%2]
		}, []int{4, 4, 4, 4}, 0},
		"another target comes and goes":          {"round_robin", func(n int) []Target { return append(slices.Clone(four), fifth)[:4+n%2] }, []int{4, 4, 4, 4}, 1},
		"the list turns around":                  {"round_robin", func(n int) []Target { return [][]Target{four, reversed}[n%2] }, []int{4, 4, 4, 4}, 0},
		"weights that don't count change":        {"round_robin", func(n int) []Target { return weighted(1, uint32(1+n%2), 1, 1) }, []int{4, 4, 4, 4}, 0},
		"weights change":                         {"weighted_round_robin", func(n int) []Target { return weighted(3, uint32(1+n%2), 2, 2) }, []int{6, 3, 4, 4}, 1},
		"weights become equal and unequal":       {"weighted_round_robin", func(n int) []Target { return weighted(uint32(1+n%2), 1, 1, 1) }, []int{5, 4, 4, 4}, 1},
		"weights of idle targets change":         {"least_connections", func(n int) []Target { return weighted(2, uint32(2+n%2), 2, 2) }, []int{4, 4, 4, 4}, 1},
		"weights change that need a long period": {"weighted_round_robin", func(n int) []Target { return weighted(997, uint32(991+n), 983, 977) }, []int{4, 4, 4, 4}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var b Strategy
			got := map[*State]int{}
			for n := range 8 {
				ts := c.change(n)
				b = strategyOf(c.kind, ts, b)
				for range 2 {
					got[ts[b.Pick(Choice{})].State]++
				}
			}
			var counts []int
			for _, target := range four {
				counts = append(counts, got[target.State])
			}
			for i, n := range counts {
				if n > c.want[i]+c.off || n < c.want[i]-c.off {
					t.Fatalf("16 picks over 8 changes: %v, want %v but for %d each", counts, c.want, c.off)
				}
			}
		})
	}
}

// TestSharesOverChanges draws picks, weights, targets that come and go, and their order: a target that was there all
// the time never has more than two requests more or less than the sum of its shares.
func TestSharesOverChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{"round_robin", "weighted_round_robin", "least_connections"}).Draw(t, "kind")
		n := rapid.IntRange(1, 6).Draw(t, "targets")
		states := make([]*State, n)
		due, got := make([]float64, n), make([]int, n)
		stays := make([]bool, n)
		for i := range states {
			states[i], stays[i] = &State{}, true
		}
		order := slices.Collect(upTo(n))
		shuffled := rapid.Bool().Draw(t, "shuffled")
		var b Strategy
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			var ts []Target
			sum := 0.0
			if shuffled {
				order = rapid.Permutation(order).Draw(t, "order")
			}
			for _, i := range order {
				w := rapid.Uint32Range(1, 20).Draw(t, "weight")
				if i > 0 && rapid.IntRange(0, 9).Draw(t, "gone") == 0 {
					stays[i] = false
					continue
				}
				if kind == "round_robin" {
					sum++
				} else {
					sum += float64(w)
				}
				ts = append(ts, Target{State: states[i], Weight: w})
			}
			b = strategyOf(kind, ts, b)
			for range rapid.IntRange(0, 8).Draw(t, "picks") {
				got[slices.Index(states, ts[b.Pick(Choice{})].State)]++
				for _, target := range ts {
					w := float64(target.Weight)
					if kind == "round_robin" {
						w = 1
					}
					due[slices.Index(states, target.State)] += w / sum
				}
				if slices.Contains(stays, false) {
					continue // what the gone were owed is shared among the others
				}
				for i := range states {
					if d := float64(got[i]) - due[i]; d > 2 || d < -2 {
						t.Fatalf("target %d has %d requests, and %.2f are its share", i, got[i], due[i])
					}
				}
			}
		}
	})
}

func upTo(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

// TestLongPeriods has lists that no schedule is worked out for: a round has every target just as often as its weight
// says, and no part of it has one much more or less often.
func TestLongPeriods(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Uint32Range(0, 1000), 10, 60).Draw(t, "weights")
		weights[0], weights[1] = 999, 1000 // nothing divides both
		ts := targets(weights...)
		sum := 0
		for _, w := range weights {
			sum += int(w)
		}
		b := strategyOf("weighted_round_robin", ts, nil)
		if _, is := b.(*rotation); !is && sum > maxSchedule {
			t.Fatalf("a %T for a sum of weights of %d", b, sum)
		}
		for range rapid.IntRange(0, 1000).Draw(t, "before") {
			b.Pick(Choice{})
		}
		counts := make([]int, len(ts))
		for k := range sum {
			counts[b.Pick(Choice{})]++
			if k%97 != 0 {
				continue
			}
			for i, n := range counts {
				if d := float64(n) - float64(k+1)*float64(weights[i])/float64(sum); d > 4 || d < -4 {
					t.Fatalf("after %d of %d picks target %d of weight %d has %d", k+1, sum, i, weights[i], n)
				}
			}
		}
		for i, w := range weights {
			if counts[i] != int(w) {
				t.Fatalf("target %d of weight %d has %d picks in a round", i, w, counts[i])
			}
		}
	})
}

// TestSharesUnderConcurrentPicks picks from several goroutines, over whole rounds: what all got is exact.
func TestSharesUnderConcurrentPicks(t *testing.T) {
	for name, weights := range map[string][]uint32{"short": {5, 2, 1}, "long": {1000, 999, 998, 997, 996}, "equal": {1, 1, 1, 1}} {
		b := strategyOf("weighted_round_robin", targets(weights...), nil)
		sum := uint32(0)
		for _, w := range weights {
			sum += w
		}
		counts := make([][]int, 4)
		var wg sync.WaitGroup
		for g := range counts {
			counts[g] = make([]int, len(weights))
			wg.Go(func() {
				for range sum {
					counts[g][b.Pick(Choice{})]++
				}
			})
		}
		wg.Wait()
		for i, w := range weights {
			n := 0
			for g := range counts {
				n += counts[g][i]
			}
			if scale := 4 * sum / sum; n != int(w*scale) && name != "equal" || name == "equal" && n != 4 {
				t.Errorf("%s: target %d of weight %d has %d of %d picks", name, i, w, n, 4*sum)
			}
		}
	}
}

// TestPicksRaceChanges picks while lists follow each other and health changes: what is picked is always in the list
// that was picked from.
func TestPicksRaceChanges(t *testing.T) {
	for _, kind := range []string{"round_robin", "weighted_round_robin", "least_connections"} {
		ts := targets(1, 2, 3, 4, 900, 997)
		b := strategyOf(kind, ts, nil)
		var mu sync.RWMutex
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 5000 {
					mu.RLock()
					own := b
					mu.RUnlock()
					if i := own.Pick(tried(ts, 1)); i < 0 || i == 1 {
						t.Errorf("%s: picked %d", kind, i)
						return
					}
				}
			})
		}
		for n := range 300 {
			next := slices.Clone(ts[:4+n%3])
			next[n%4].Weight = uint32(1 + n%9)
			ts[2].State.SetHealthy(n%2 == 0)
			made := strategyOf(kind, next, b)
			mu.Lock()
			b = made
			mu.Unlock()
		}
		wg.Wait()
	}
}

// TestEqualsShare has a busy target among idle ones: those are equal, and its turns are not all its neighbour's.
func TestEqualsShare(t *testing.T) {
	ts := targets(1, 1, 2, 1)
	ts[0].State.Add(100)
	b := strategyOf("least_connections", ts, nil)
	got := make([]int, len(ts))
	for range 400 {
		got[b.Pick(Choice{})]++
	}
	for i, want := range []int{0, 100, 200, 100} {
		if d := got[i] - want; d > 25 || d < -25 {
			t.Fatalf("idle targets of weights 1, 2, 1 beside a busy one got %v of 400", got)
		}
	}
}

// BenchmarkPick compares with the algorithm itself, under a lock.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 100, 10_000} {
		for _, kind := range append(allKinds, "reference") {
			for _, down := range []int{0, n / 2} {
				ts := make([]Target, n)
				for i := range ts {
					ts[i] = Target{State: &State{}, Weight: uint32(1 + i*7919%1000), Key: fmt.Sprint(i)}
				}
				var p Strategy = newReference(ts)
				if kind != "reference" {
					p = strategyOf(kind, ts, nil)
				}
				for i := range down {
					ts[2*i].State.SetHealthy(false)
				}
				b.Run(fmt.Sprintf("%s/of=%d/down=%d", kind, n, down), func(b *testing.B) {
					b.ReportAllocs()
					b.RunParallel(func(pb *testing.PB) {
						c := Choice{Keyed: true, Hash: rand.Uint64()}
						for pb.Next() {
							p.Pick(c)
						}
					})
				})
			}
		}
	}
}

// BenchmarkNew makes balancers of lists that follow each other.
func BenchmarkNew(b *testing.B) {
	for _, n := range []int{2, 100, 10_000} {
		for _, kind := range []string{"round_robin", "weighted_round_robin"} {
			b.Run(fmt.Sprintf("%s/of=%d", kind, n), func(b *testing.B) {
				ts := make([]Target, n)
				for i := range ts {
					ts[i] = Target{State: &State{}, Weight: uint32(1 + i%10)}
				}
				var p Strategy
				for k := 0; b.Loop(); k++ {
					next := slices.Clone(ts)
					next[k%n].Weight = 11
					p = strategyOf(kind, next, p)
					p.Pick(Choice{})
				}
			})
		}
	}
}
