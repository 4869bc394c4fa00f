package chunk

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type message struct {
	chunk, chunks uint32
	things        []int
}

func (m *message) GetChunk() uint32  { return m.chunk }
func (m *message) GetChunks() uint32 { return m.chunks }

// TestGathersWhatWasSplit: things of any sizes come back in their order, no message is larger than it may be unless it
// has one thing, and runs have the same things.
func TestGathersWhatWasSplit(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 50).Draw(rt, "limit")
		things := rapid.SliceOf(rapid.IntRange(0, 80)).Draw(rt, "things")
		s := Splitter[*message]{Filler: Filler{Limit: limit}, Fresh: func() *message { return &message{} }}
		for _, size := range things {
			m, _ := s.Room(size)
			m.things = append(m.things, size)
		}
		all := s.Messages(func(m *message, chunk, chunks uint32) { m.chunk, m.chunks = chunk, chunks })
		n, runs := Runs(slices.Values(things), limit, func(size int) int { return size })
		i := 0
		for run := range runs {
			if i >= len(all) || !slices.Equal(run, all[i].things) {
				rt.Fatalf("run %d has %v of %v", i+1, run, things)
			}
			i++
		}
		if i != len(all) || int(n) != i {
			rt.Fatalf("%d messages in %d runs, counted as %d", len(all), i, n)
		}
		var g Gather[*message]
		for i, m := range all {
			sum := 0
			for _, size := range m.things {
				sum += size
			}
			if sum > limit && len(m.things) > 1 && sum-m.things[len(m.things)-1] > limit {
				rt.Fatalf("%v of at most %d bytes", m.things, limit)
			}
			whole, complete, err := g.Add("x", m, func(whole, part *message) {
				whole.things = append(whole.things, part.things...)
			})
			if err != nil || complete != (i == len(all)-1) {
				rt.Fatalf("message %d of %d: complete %t, %v", i+1, len(all), complete, err)
			}
			if complete && !slices.Equal(whole.things, things) {
				rt.Fatalf("%v became %v", things, whole.things)
			}
		}
	})
}

func TestMessagesThatDoNotFollow(t *testing.T) {
	type step struct {
		of            string
		chunk, chunks uint32
	}
	for name, steps := range map[string][]step{
		"a later one first":       {{"a", 2, 3}},
		"one is missing":          {{"a", 1, 3}, {"a", 3, 3}},
		"one twice":               {{"a", 1, 3}, {"a", 2, 3}, {"a", 2, 3}},
		"of something else":       {{"a", 1, 2}, {"b", 2, 2}},
		"of another number":       {{"a", 1, 2}, {"a", 2, 3}},
		"one more after the last": {{"a", 1, 2}, {"a", 2, 2}, {"a", 3, 2}},
		"begun anew and then not": {{"a", 1, 3}, {"a", 2, 3}, {"a", 1, 3}, {"a", 3, 3}},
	} {
		var s Sequence
		for i, step := range steps {
			_, _, err := s.Add(step.of, &message{chunk: step.chunk, chunks: step.chunks})
			if (err != nil) != (i == len(steps)-1) {
				t.Errorf("%s: %v at %d", name, err, i)
			}
		}
	}
}
