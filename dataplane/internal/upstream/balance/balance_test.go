package balance

import (
	"testing"

	"pgregory.net/rapid"
)

func targets(weights ...uint32) []Target {
	var ts []Target
	for _, w := range weights {
		ts = append(ts, Target{&State{}, w})
	}
	return ts
}

func TestWeightedIsSmooth(t *testing.T) {
	b := New("weighted_round_robin", targets(5, 1, 1))
	var got []int
	for range 7 {
		got = append(got, b.Pick(-1))
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
		down := rapid.IntRange(-1, len(ts)-1).Draw(t, "down")
		if down >= 0 {
			ts[down].State.SetHealthy(false)
			weights[down] = 0
		}
		sum := 0
		for _, w := range weights {
			sum += int(w)
		}
		b := New("weighted_round_robin", ts)
		counts := make([]int, len(ts))
		for range 50 * sum {
			i := b.Pick(-1)
			if i < 0 || weights[i] == 0 {
				t.Fatalf("picked %d of weights %v", i, weights)
			}
			counts[i]++
		}
		if sum == 0 && b.Pick(-1) != -1 {
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
		b := New(kind, ts)
		ts[1].State.SetHealthy(false)
		for range 20 {
			if i := b.Pick(0); i != 2 {
				t.Fatalf("%s: picked %d", kind, i)
			}
		}
		ts[2].State.SetHealthy(false)
		if i := b.Pick(0); i != 0 {
			t.Errorf("%s: the only one is %d", kind, i)
		}
		ts[0].State.SetHealthy(false)
		if i := b.Pick(-1); i != -1 {
			t.Errorf("%s: picked %d of none", kind, i)
		}
		if New(kind, nil).Pick(-1) != -1 {
			t.Errorf("%s: picked one of an empty list", kind)
		}
	}
}

func TestLeastConnections(t *testing.T) {
	ts := targets(1, 2, 1)
	ts[0].State.Add(2)
	ts[1].State.Add(3)
	ts[2].State.Add(1)
	if i := New("least_connections", ts).Pick(-1); i != 1 && i != 2 {
		t.Errorf("picked %d", i)
	}
	ts[2].State.Add(5)
	if i := New("least_connections", ts).Pick(-1); i != 1 {
		t.Errorf("picked %d", i)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, kind := range []string{"round_robin", "weighted_round_robin", "least_connections"} {
		b.Run(kind, func(b *testing.B) {
			p := New(kind, targets(3, 1, 1))
			b.ReportAllocs()
			for b.Loop() {
				p.Pick(-1)
			}
		})
	}
}
