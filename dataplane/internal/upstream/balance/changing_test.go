package balance

import "testing"

// TestChangesAtEachRequest changes the targets before each request, 1,000 times: those that stay get their shares.
func TestChangesAtEachRequest(t *testing.T) {
	for _, kind := range allKinds {
		for _, panics := range []float64{0, 0.5} {
			three := targets(1, 1, 1)
			for i, key := range []string{"a", "b", "c"} {
				three[i].Key = key
			}
			fourth := Target{State: &State{}, Key: "d"}
			set := Settings{Kind: kind, TableSize: 101, Panic: panics}
			var b *Balancer
			got := map[*State]int{}
			const n = 1000
			for k := range n {
				fourth.Weight = uint32(k % 2)
				ts := append(three[:3:3], fourth)
				b = New(set, ts, b)
				i := b.Pick(Choice{Now: int64(k)})
				got[ts[i].State]++
			}
			for i := range three {
				if g := got[three[i].State]; g < n/5 || g > n*2/5 {
					t.Errorf("%s: target %d got %d of %d requests", kind, i, g, n)
				}
			}
		}
	}
}
