package balance

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestNoneIsTriedTwiceWhileOthersAreLeft follows requests over all endpoints: each is chosen once before any is
// chosen again, and then the one that has just failed comes last.
func TestNoneIsTriedTwiceWhileOthersAreLeft(t *testing.T) {
	for _, kind := range allKinds {
		t.Run(kind, rapid.MakeCheck(func(t *rapid.T) {
			n := rapid.SampledFrom([]int{1, 2, 3, 7, 20, 100}).Draw(t, "targets")
			ts := make([]Target, n)
			left := 0
			for i := range ts {
				ts[i] = Target{State: &State{}, Weight: rapid.Uint32Range(0, 3).Draw(t, "weight"), Key: fmt.Sprint(i)}
				ts[i].State.SetHealthy(rapid.IntRange(0, 3).Draw(t, "down") > 0)
				ts[i].State.Add(rapid.Int64Range(0, 9).Draw(t, "in flight"))
				if ts[i].usable() {
					left++
				}
			}
			b := strategyOf(kind, ts, nil)
			for range 3 {
				b.Pick(Choice{})
			}
			var set Tried
			seen := map[int]bool{}
			for k := range left {
				i := again(b, Choice{Tried: &set, Keyed: true, Hash: golden})
				if i < 0 || seen[i] || !ts[i].usable() {
					t.Fatalf("attempt %d of %d is %d (seen before: %v)", k, left, i, seen[i])
				}
				seen[i] = true
				set.Add(ts[i].State)
			}
			last := set.Len() - 1
			for range 3 {
				switch i := again(b, Choice{Tried: &set, Keyed: true, Hash: golden}); {
				case left == 0 && i == -1:
				case left == 0 || i < 0 || !ts[i].usable():
					t.Fatalf("picked %d when all %d are tried", i, left)
				case left > 1 && ts[i].State == set.at(last):
					t.Fatalf("picked %d again, which has just failed", i)
				}
			}
		}))
	}
}

// TestExclusionKeepsShares: without what was tried, the others share by weight.
func TestExclusionKeepsShares(t *testing.T) {
	ts := targets(3, 6, 1, 2, 4)
	b := strategyOf("weighted_round_robin", ts, nil)
	got := make([]int, len(ts))
	for range 7000 {
		got[b.Pick(tried(ts, 4, 1, 4))]++
	}
	for i, want := range []int{3500, 0, 1167, 2333, 0} {
		if d := got[i] - want; d > 60 || d < -60 {
			t.Fatalf("got %v", got)
		}
	}
}

// TestTriedBeyondMemory adds more than have room without allocation.
func TestTriedBeyondMemory(t *testing.T) {
	ts := targets(1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
	c := tried(ts, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	clone := c.Tried.Clone()
	clone.Add(ts[9].State)
	for i := range ts {
		if got, want := c.excludes(ts[i].State), i < 9; got != want {
			t.Errorf("%d: %v", i, got)
		}
	}
	if clone.Len() != 10 || c.Tried.Len() != 9 || clone.at(9) != ts[9].State {
		t.Error(fmt.Sprint(clone.Len(), c.Tried.Len()))
	}
}
