package balance

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"gateway.internal/shared/keyhash"
)

// keyed returns n targets with addresses for keys and the weights, in turn.
func keyed(n int, weights ...uint32) []Target {
	ts := make([]Target, n)
	for i := range ts {
		ts[i] = Target{State: &State{}, Weight: weights[i%len(weights)], Key: fmt.Sprintf("10.0.%d.%d:8000", i/250, i%250)}
	}
	return ts
}

func keyOf(k int) Choice { return Choice{Hash: keyhash.Text(fmt.Sprint("key-", k)), Keyed: true} }

// owners returns what each of n keys goes to.
func owners(ts []Target, b interface{ Pick(Choice) int }, n int) []string {
	to := make([]string, n)
	for k := range to {
		to[k] = ts[b.Pick(keyOf(k))].Key
	}
	return to
}

// TestKeysMoveNoMoreThanTheyMust adds, removes and weighs one target: a key moves only to the one that has come or
// grown, or away from the one that has gone or shrunk, and no more than 1.1 times as many as its share do.
func TestKeysMoveNoMoreThanTheyMust(t *testing.T) {
	const keys = 8000
	for _, c := range []struct {
		name   string
		before []Target
		change func([]Target) []Target
		// share is how much of all weights changes hands.
		share float64
	}{
		{"one of 3 goes", keyed(3, 1), func(ts []Target) []Target { return ts[:2] }, 1.0 / 3},
		{"one of 10 goes", keyed(10, 1), func(ts []Target) []Target { return slices.Delete(ts, 4, 5) }, 1.0 / 10},
		{"one of 100 goes", keyed(100, 3), func(ts []Target) []Target { return slices.Delete(ts, 0, 1) }, 1.0 / 100},
		{"an 11th comes", keyed(11, 1)[:10], func(ts []Target) []Target { return append(ts, keyed(11, 1)[10]) }, 1.0 / 11},
		{"they come in another order", keyed(9, 1, 2), func(ts []Target) []Target { slices.Reverse(ts); return ts }, 0},
		{"a heavy one goes", keyed(4, 1, 1, 1, 7), func(ts []Target) []Target { return ts[:3] }, 0.7},
		{"one weighs more", keyed(4, 1), func(ts []Target) []Target { ts[1].Weight = 2; return ts }, 1 - 3.0/4*4/5 - 1.0/4},
		{"one weighs nothing", keyed(4, 1), func(ts []Target) []Target { ts[1].Weight = 0; return ts }, 1.0 / 4},
		{"all weigh twice as much", keyed(4, 1, 2), func(ts []Target) []Target {
			for i := range ts {
				ts[i].Weight *= 2
			}
			return ts
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := Settings{Kind: "consistent_hash", TableSize: 20_011}
			was := New(set, c.before, nil)
			before := owners(c.before, was, keys)
			after := c.change(slices.Clone(c.before))
			now := owners(after, New(set, after, was), keys)
			moved := 0
			gainers, losers := map[string]bool{}, map[string]bool{}
			for k := range keys {
				if before[k] != now[k] {
					moved++
					gainers[now[k]], losers[before[k]] = true, true
				}
			}
			// What must move are the keys of the one that changed, whichever they are: none of the others' may.
			if moved > 0 && len(gainers) > 1 && len(losers) > 1 {
				t.Errorf("keys moved among those that did not change: %d gained, %d lost", len(gainers), len(losers))
			}
			minimum := c.share * keys
			if float64(moved) > 1.1*minimum+60 || float64(moved) < 0.85*minimum-60 {
				t.Errorf("%d keys moved, the share that changed hands has %.0f", moved, minimum)
			}
		})
	}
}

// TestNoOtherPlaceMoves draws lists and one change: places change hands only with the target that comes or goes,
// which is the minimum.
func TestNoOtherPlaceMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ts := keyed(rapid.IntRange(2, 60).Draw(t, "targets"), 1)
		for i := range ts {
			ts[i].Weight = rapid.Uint32Range(1, 20).Draw(t, "weight")
		}
		gone := rapid.IntRange(0, len(ts)-1).Draw(t, "gone")
		fewer := slices.Delete(slices.Clone(ts), gone, gone+1)
		size := rapid.IntRange(61, 5000).Draw(t, "size")
		with, without := newTable(ts, size).owner, newTable(fewer, size).owner
		for place, i := range with {
			if int(i) != gone && ts[i].Key != fewer[without[place]].Key {
				t.Fatalf("place %d went from %s to %s when %s went", place, ts[i].Key, fewer[without[place]].Key, ts[gone].Key)
			}
		}
	})
}

func TestPlacesAreSharedByWeight(t *testing.T) {
	for _, ts := range [][]Target{keyed(3, 1), keyed(10, 1, 2, 3), keyed(300, 1, 9)} {
		weights := 0
		for _, target := range ts {
			weights += int(target.Weight)
		}
		counts := make([]int, len(ts))
		for _, i := range newTable(ts, 20_011).owner {
			counts[i]++
		}
		for i, n := range counts {
			mean := 20_011.0 * float64(ts[i].Weight) / float64(weights)
			if d := float64(n) - mean; d*d > 25*mean { // five standard deviations
				t.Errorf("of %d, %d has %d places instead of %.0f", len(ts), i, n, mean)
			}
		}
	}
}

// TestKeysOfTheUnhealthy takes a target away: its keys are spread over the others, all other keys stay, and its own
// come back.
func TestKeysOfTheUnhealthy(t *testing.T) {
	ts := keyed(8, 1)
	b := New(Settings{Kind: "consistent_hash", TableSize: 4001}, ts, nil)
	before := owners(ts, b, 8000)
	ts[3].State.SetHealthy(false)
	down := owners(ts, b, 8000)
	if !slices.Equal(down, owners(ts, b, 8000)) {
		t.Error("keys of the one that is down go to several")
	}
	spread := map[string]int{}
	for k := range before {
		if before[k] == ts[3].Key {
			spread[down[k]]++
		} else if before[k] != down[k] {
			t.Fatalf("key %d moved from %s to %s", k, before[k], down[k])
		}
	}
	for i, target := range ts {
		if n := spread[target.Key]; i != 3 && (n < 90 || n > 200) || i == 3 && n > 0 {
			t.Errorf("the keys of the one that is down are shared as %v", spread)
			break
		}
	}
	ts[3].State.SetHealthy(true)
	if !slices.Equal(before, owners(ts, b, 8000)) {
		t.Error("keys did not come back")
	}
}

// TestKeysWithoutAnyPlace has all but a few of many targets down: keys still agree on one.
func TestKeysWithoutAnyPlace(t *testing.T) {
	ts := keyed(400, 1)
	for i := range ts {
		ts[i].State.SetHealthy(i < 2)
	}
	b := New(Settings{Kind: "consistent_hash", TableSize: 4001}, ts, nil)
	counts := [2]int{}
	for k := range 1000 {
		i := b.Pick(keyOf(k))
		if i < 0 || i > 1 || b.Pick(keyOf(k)) != i {
			t.Fatalf("key %d goes to %d", k, i)
		}
		counts[i]++
	}
	if counts[0] < 400 || counts[1] < 400 {
		t.Errorf("shared as %v", counts)
	}
}

// TestBoundedLoad sends most requests with one key: no target has more than the bound's share in flight, and the
// key's own has it.
func TestBoundedLoad(t *testing.T) {
	for _, n := range []int{4, 300} {
		ts := keyed(n, 1)
		b := New(Settings{Kind: "consistent_hash", Bound: 1.25, TableSize: 4001}, ts, nil)
		own := b.Pick(keyOf(7))
		total := 50 * n
		for range total {
			ts[b.Pick(keyOf(7))].State.Add(1)
		}
		for i := range ts {
			if got := ts[i].State.InFlight(); got > 64+1 {
				t.Errorf("of %d, %d has %d in flight, the mean is 50", n, i, got)
			}
		}
		if got := ts[own].State.InFlight(); got < 55 {
			t.Errorf("of %d, the key's own has only %d in flight", n, got)
		}
	}
}

func TestRequestsWithoutKeyShareByWeight(t *testing.T) {
	ts := keyed(4, 1, 3)
	b := New(Settings{Kind: "consistent_hash", TableSize: 4001}, ts, nil)
	got := make([]int, 4)
	for range 800 {
		got[b.Pick(Choice{})]++
	}
	for i, want := range []int{100, 300, 100, 300} {
		if d := got[i] - want; d > 4 || d < -4 {
			t.Fatalf("got %v", got)
		}
	}
}
