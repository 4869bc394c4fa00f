package balance

import (
	"sync"
	"testing"

	"pgregory.net/rapid"
)

var allKinds = []string{
	"round_robin", "weighted_round_robin", "least_connections", "random", "consistent_hash", "peak_ewma",
}

func targets(weights ...uint32) []Target {
	var ts []Target
	for _, w := range weights {
		ts = append(ts, Target{State: &State{}, Weight: w})
	}
	return ts
}

// groupOf returns targets as a group of their own.
func groupOf(ts []Target) *group {
	g := &group{targets: ts, health: &health{over: overprovisioning}}
	g.health.tiers = []*group{g}
	return g
}

// strategyOf returns a strategy alone, without a balancer.
func strategyOf(kind string, ts []Target, previous Strategy) Strategy {
	return newStrategy(&Settings{Kind: kind, TableSize: 1009}, groupOf(ts), previous)
}

// again chooses as a balancer does: where all were tried, one of them again.
func again(s Strategy, c Choice) int {
	b := Balancer{tiers: []tier{{strategy: s}}}
	return b.Pick(c)
}

// tried returns a choice that excludes some of the targets.
func tried(ts []Target, indices ...int) Choice {
	c := Choice{Tried: &Tried{}}
	for _, i := range indices {
		c.Tried.Add(ts[i].State)
	}
	return c
}

func TestWeightedIsSmooth(t *testing.T) {
	b := strategyOf("weighted_round_robin", targets(5, 1, 1), nil)
	var got []int
	for range 7 {
		got = append(got, b.Pick(Choice{}))
	}
	for i, want := range []int{0, 0, 1, 0, 2, 0, 0} { // nginx's own example
		if got[i] != want {
			t.Fatalf("got %v", got)
		}
	}
}

func TestSharesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Uint32Range(0, 9), 1, 6).Draw(t, "weights")
		ts := targets(weights...)
		kind := rapid.SampledFrom([]string{"weighted_round_robin", "rotation"}).Draw(t, "kind")
		down := rapid.IntRange(-1, len(ts)-1).Draw(t, "down")
		if down >= 0 {
			ts[down].State.SetHealthy(false)
			weights[down] = 0
		}
		sum := 0
		for _, w := range weights {
			sum += int(w)
		}
		b := strategyOf(kind, ts, nil)
		if kind == "rotation" && sum > 0 { // what runs where the period is too long
			b = newRotation(groupOf(ts), 1, nil)
		}
		counts := make([]int, len(ts))
		for range 50 * sum {
			i := b.Pick(Choice{})
			if i < 0 || weights[i] == 0 {
				t.Fatalf("picked %d of weights %v", i, weights)
			}
			counts[i]++
		}
		if sum == 0 && b.Pick(Choice{}) != -1 {
			t.Fatal("picked one of none")
		}
		for i, w := range weights {
			// With a target down its slots are dealt out by weight as well, exactly up to the last period.
			if d := counts[i] - 50*int(w); d > sum || -d > sum {
				t.Fatalf("weights %v, counts %v", weights, counts)
			}
		}
	})
}

func TestUnhealthyAndAvoided(t *testing.T) {
	for _, kind := range []string{"round_robin", "weighted_round_robin", "least_connections"} {
		ts := targets(1, 1, 1)
		b := strategyOf(kind, ts, nil)
		ts[1].State.SetHealthy(false)
		for range 20 {
			if i := again(b, tried(ts, 0)); i != 2 {
				t.Fatalf("%s: picked %d", kind, i)
			}
		}
		ts[2].State.SetHealthy(false)
		if i := again(b, tried(ts, 0)); i != 0 {
			t.Errorf("%s: the only one is %d", kind, i)
		}
		ts[0].State.SetHealthy(false)
		if i := b.Pick(Choice{}); i != -1 {
			t.Errorf("%s: picked %d of none", kind, i)
		}
		if strategyOf(kind, nil, nil).Pick(Choice{}) != -1 {
			t.Errorf("%s: picked one of an empty list", kind)
		}
	}
}

// TestSpacingIsThatOfNginx compares whole periods with the algorithm itself, so that nothing comes more bunched.
func TestSpacingIsThatOfNginx(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ts := targets(rapid.SliceOfN(rapid.Uint32Range(0, 40), 1, 8).Draw(t, "weights")...)
		b, reference := strategyOf("weighted_round_robin", ts, nil), newReference(ts)
		for k := range 500 {
			if got, want := b.Pick(Choice{}), reference.Pick(Choice{}); got != want {
				t.Fatalf("pick %d is %d instead of %d", k, got, want)
			}
		}
	})
}

// TestSharesOfTheUnhealthy takes targets away: what they would have got goes to all others by weight, not to a
// neighbour.
func TestSharesOfTheUnhealthy(t *testing.T) {
	for _, c := range []struct {
		kind    string
		weights []uint32
		down    []int
		want    []int
	}{
		{"round_robin", []uint32{1, 1, 1, 1}, []int{1}, []int{400, 0, 400, 400}},
		{"round_robin", []uint32{5, 1, 0, 1}, nil, []int{400, 400, 0, 400}},
		{"weighted_round_robin", []uint32{3, 6, 1, 2}, []int{1}, []int{600, 0, 200, 400}},
		{"least_connections", []uint32{1, 1, 1, 1}, []int{1}, []int{400, 0, 400, 400}},
		{"least_connections", []uint32{3, 6, 1, 2}, []int{1}, []int{600, 0, 200, 400}},
		{"least_connections", []uint32{2, 1}, nil, []int{800, 400}},
	} {
		ts := targets(c.weights...)
		for _, i := range c.down {
			ts[i].State.SetHealthy(false)
		}
		b := strategyOf(c.kind, ts, nil)
		got := make([]int, len(ts))
		for range 1200 {
			got[b.Pick(Choice{})]++
		}
		for i := range got {
			if d := got[i] - c.want[i]; d > 4 || d < -4 {
				t.Errorf("%s %v without %v: %v instead of %v", c.kind, c.weights, c.down, got, c.want)
				break
			}
		}
	}
}

// TestFewAreLeft has few healthy targets among 300: they share alike, and are found whatever is avoided.
func TestFewAreLeft(t *testing.T) {
	for _, kind := range []string{"round_robin", "weighted_round_robin", "least_connections"} {
		for _, left := range []int{1, 2, 17} {
			weights := make([]uint32, 300)
			for i := range weights {
				weights[i] = 1
			}
			ts := targets(weights...)
			for i := range ts {
				ts[i].State.SetHealthy(i >= 100 && i < 100+left)
			}
			b := strategyOf(kind, ts, nil)
			counts := map[int]int{}
			for range 300 * left {
				counts[b.Pick(Choice{})]++
			}
			for i := 100; i < 100+left; i++ {
				if counts[i] < 250 || counts[i] > 350 {
					t.Fatalf("%s: %v", kind, counts)
				}
			}
			for range 100 {
				if i := again(b, tried(ts, 100)); (i == 100) != (left == 1) || i < 100 || i >= 100+left {
					t.Fatalf("%s: picked %d of %d", kind, i, left)
				}
			}
		}
	}
}

// TestPicksRaceHealth changes health under picks of many goroutines: never is one picked that was always unhealthy, and
// never none.
func TestPicksRaceHealth(t *testing.T) {
	for _, kind := range []string{"round_robin", "weighted_round_robin", "least_connections"} {
		ts := targets(1, 2, 3, 4)
		ts[3].State.SetHealthy(false)
		b := strategyOf(kind, ts, nil)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for n := range 2000 {
					ts[1].State.SetHealthy(n%2 == 0)
					i := again(b, tried(ts, n%3))
					if i < 0 || i == 3 {
						t.Errorf("%s: picked %d", kind, i)
						return
					}
					ts[i].State.Add(1)
					ts[i].State.Add(-1)
				}
			})
		}
		wg.Wait()
	}
}

func TestLeastConnections(t *testing.T) {
	ts := targets(1, 2, 1)
	ts[0].State.Add(2)
	ts[1].State.Add(3)
	ts[2].State.Add(1)
	for range 8 {
		if i := strategyOf("least_connections", ts, nil).Pick(Choice{}); i != 2 {
			t.Errorf("picked %d", i)
		}
	}
	ts[2].State.Add(5)
	for range 8 {
		if i := strategyOf("least_connections", ts, nil).Pick(Choice{}); i != 1 {
			t.Errorf("picked %d", i)
		}
	}
}

// TestTheLeastIsAvoided avoids the target that has the least in flight, among few and among many.
func TestTheLeastIsAvoided(t *testing.T) {
	for _, n := range []int{3, 200} {
		ts := make([]Target, n)
		for i := range ts {
			ts[i] = Target{State: &State{}, Weight: 1}
			ts[i].State.Add(5)
		}
		ts[1].State.Add(-5)
		b := strategyOf("least_connections", ts, nil)
		for range 50 * n {
			if i := b.Pick(tried(ts, 1)); i == 1 {
				t.Fatalf("picked it among %d", n)
			}
		}
	}
}

// TestTwoChoicesSpareTheBusy has half of 1,000 targets busy: they are picked only where two of them are compared.
func TestTwoChoicesSpareTheBusy(t *testing.T) {
	ts := make([]Target, 1000)
	for i := range ts {
		ts[i] = Target{State: &State{}, Weight: 1}
		ts[i].State.Add(int64(i%2) * 1000)
	}
	b := strategyOf("least_connections", ts, nil)
	busy := 0
	for range 10_000 {
		busy += b.Pick(Choice{}) % 2
	}
	if busy < 1500 || busy > 3500 {
		t.Errorf("%d of 10000 picks are busy ones", busy)
	}
}

// TestTwoChoices keeps requests in flight at 1,000 targets: comparing two keeps the fullest near the mean.
func TestTwoChoices(t *testing.T) {
	weights := make([]uint32, 1000)
	for i := range weights {
		weights[i] = 1
	}
	ts := targets(weights...)
	b := strategyOf("least_connections", ts, nil)
	for range 10_000 {
		ts[b.Pick(Choice{})].State.Add(1)
	}
	fullest := int64(0)
	for i := range ts {
		fullest = max(fullest, ts[i].State.InFlight())
	}
	if fullest > 14 {
		t.Errorf("the mean is 10, the fullest has %d", fullest)
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	for _, kind := range allKinds {
		ts := targets(3, 1, 1)
		ts[0].State.SetHealthy(false)
		b := strategyOf(kind, ts, nil)
		c := tried(ts, 1)
		c.Keyed = true
		if n := testing.AllocsPerRun(100, func() { b.Pick(c) }); n != 0 {
			t.Errorf("%s: %v allocations", kind, n)
		}
	}
}
