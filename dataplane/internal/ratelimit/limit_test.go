package ratelimit

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"pgregory.net/rapid"

	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/telemetry"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/ratelimit"
)

func newNode(t testing.TB) *Node {
	counters := telemetry.New(1)
	log := slog.New(slog.DiscardHandler)
	keep := live.NewStore(log, counters.Panics(log))
	t.Cleanup(keep.Close)
	return NewNode(keep, counters.Sets())
}

// limit returns a limit as JSON has it.
func (n *Node) limit(t testing.TB, text string) *Limit {
	t.Helper()
	m := &configv1.RateLimit{}
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	ratelimit.Check(m, func(field, value, format string, args ...any) {
		t.Fatalf("%s: %s %q %s", text, field, value, fmt.Sprintf(format, args...))
	})
	list, err := n.Limits(Owner{Policy: "p"}, []*configv1.RateLimit{m})
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// ask takes a cost for a key at a time.
func (l *Limit) ask(key uint64, now time.Time, cost int64) decision {
	at := l.moment(now)
	return l.take(tagOf(key*0x9e3779b97f4a7c15), &at, cost)
}

func TestAlgorithms(t *testing.T) {
	begin := time.Date(2026, 3, 28, 22, 30, 0, 0, time.UTC) // in Berlin 23:30, half an hour before the day ends
	type step struct {
		after time.Duration
		cost  int64
		want  bool
		left  int64
		wait  time.Duration
	}
	for _, c := range []struct {
		name, limit string
		steps       []step
	}{
		{"a token bucket holds burst, and fills up evenly", `{"limit": 10, "window": "1s", "burst": 2}`, []step{
			{0, 1, true, 1, 100 * time.Millisecond}, {0, 1, true, 0, 200 * time.Millisecond},
			{0, 1, false, 0, 100 * time.Millisecond}, {99 * time.Millisecond, 1, false, 0, time.Millisecond},
			{time.Millisecond, 1, true, 0, 200 * time.Millisecond}, {time.Hour, 2, true, 0, 200 * time.Millisecond},
		}},
		{"a token bucket of a limit that does not divide its window", `{"limit": 7, "window": "1s"}`, []step{
			{0, 6, true, 1, 857142857}, {0, 1, true, 0, 857142857 + 142857142}, {0, 1, false, 0, 142857141},
		}},
		{"a cost above burst never passes", `{"limit": 10, "burst": 5}`, []step{{0, 6, false, 5, 100 * time.Millisecond}}},
		{"a fixed window", `{"algorithm": "fixed_window", "limit": 2, "window": "1m"}`, []step{
			{0, 1, true, 1, time.Minute}, {59 * time.Second, 1, true, 0, time.Second}, {0, 1, false, 0, time.Second},
			{time.Second, 2, true, 0, time.Minute}, {0, 1, false, 0, time.Minute},
		}},
		{"a day of another zone ends at its midnight", `{"algorithm": "fixed_window", "limit": 1, "window": "day",
			"time_zone": "Europe/Berlin"}`, []step{
			{0, 1, true, 0, 30 * time.Minute}, {0, 1, false, 0, 30 * time.Minute},
			{30 * time.Minute, 1, true, 0, 23 * time.Hour}, // the clocks go forward on that day
			{23*time.Hour - 1, 1, false, 0, 1}, {1, 1, true, 0, 24 * time.Hour},
		}},
		{"a month", `{"algorithm": "fixed_window", "limit": 1, "window": "month"}`, []step{
			{0, 1, true, 0, 3*24*time.Hour + 90*time.Minute}, {3 * 24 * time.Hour, 1, false, 0, 90 * time.Minute},
			{90 * time.Minute, 1, true, 0, 30 * 24 * time.Hour},
		}},
		{"a sliding window", `{"algorithm": "sliding_window", "limit": 10, "window": "10s"}`, []step{
			{0, 10, true, 0, 10 * time.Second}, {0, 1, false, 0, 11 * time.Second}, {10 * time.Second, 1, false, 0, time.Second},
			{time.Second, 1, true, 0, 9 * time.Second}, {4 * time.Second, 4, true, 0, 5 * time.Second},
			{0, 1, false, 0, time.Second}, {30 * time.Second, 10, true, 0, 5 * time.Second},
		}},
		{"what is under way", `{"algorithm": "concurrency", "limit": 2}`, []step{
			{0, 1, true, 1, 0}, {time.Hour, 1, true, 0, 0}, {0, 1, false, 0, 0},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newNode(t).limit(t, c.limit)
			now := begin
			l.node.base = begin.Add(-time.Hour)
			for i, s := range c.steps {
				now = now.Add(s.after)
				got := l.ask(1, now, s.cost)
				if got != (decision{s.want, s.left, int64(s.wait)}) {
					t.Errorf("step %d: %+v, want %t, %d left, %d", i, got, s.want, s.left, s.wait)
				}
			}
		})
	}
}

// TestGivenBack gives back what was taken, and no more.
func TestGivenBack(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, text := range []string{
		`{"limit": 5}`, `{"algorithm": "fixed_window", "limit": 5}`, `{"algorithm": "sliding_window", "limit": 5}`,
		`{"algorithm": "concurrency", "limit": 5}`,
	} {
		l := newNode(t).limit(t, text)
		l.node.base = now.Add(-time.Hour)
		at := l.moment(now)
		for range 3 {
			l.take(7, &at, 5)
			l.give(7, &at, 5)
			l.give(7, &at, 5)
		}
		if d := l.take(7, &at, 5); !d.passes || d.left != 0 {
			t.Errorf("%s: %+v", text, d)
		}
		if d := l.take(7, &at, 1); d.passes {
			t.Errorf("%s: it was given back twice", text)
		}
	}
}

// model is a limit as one would write it down: it remembers everything.
type model struct {
	s     *ratelimit.Settings
	taken map[uint64][]taking
}

type taking struct {
	at   time.Time
	cost int64
}

// passes says whether a cost may pass.
func (m *model) passes(key uint64, now time.Time, cost int64) bool {
	sum := int64(0)
	switch m.s.Algorithm {
	case ratelimit.TokenBucket:
		// Tokens in units of a nanosecond's share: the bucket has burst*window of them, and gets limit in a nanosecond.
		full := m.s.Burst * int64(m.s.Window)
		tokens, last := full, time.Time{}
		for _, t := range m.taken[key] {
			if !last.IsZero() {
				tokens = min(tokens+int64(t.at.Sub(last))*m.s.Limit, full)
			}
			tokens, last = tokens-t.cost*int64(m.s.Window), t.at
		}
		if !last.IsZero() {
			tokens = min(tokens+int64(now.Sub(last))*m.s.Limit, full)
		}
		return tokens >= cost*int64(m.s.Window)
	case ratelimit.FixedWindow:
		from, _ := m.s.Period(now)
		for _, t := range m.taken[key] {
			if !t.at.Before(from) {
				sum += t.cost
			}
		}
	case ratelimit.SlidingWindow:
		from, until := m.s.Period(now)
		before := int64(0)
		for _, t := range m.taken[key] {
			switch {
			case !t.at.Before(from):
				sum += t.cost
			case !t.at.Before(from.Add(-m.s.Window)):
				before += t.cost
			}
		}
		// Rounded to the next whole number, in integers.
		w := int64(m.s.Window)
		sum += (2*before*int64(until.Sub(now)) + w) / (2 * w)
	}
	return sum+cost <= m.s.Limit
}

// TestLimitsAreLikeTheirModel compares each decision, for few keys in a table that grows and shrinks meanwhile.
func TestLimitsAreLikeTheirModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		node := newNode(t)
		l := node.limit(t, rapid.SampledFrom([]string{
			`{"limit": 10, "window": "1s", "burst": 4}`, `{"limit": 1, "window": "1m", "burst": 3}`,
			`{"limit": 100, "window": "1s"}`, `{"algorithm": "fixed_window", "limit": 5, "window": "1s"}`,
			`{"algorithm": "fixed_window", "limit": 9, "window": "day", "time_zone": "America/Havana"}`,
			`{"algorithm": "sliding_window", "limit": 10, "window": "1s"}`,
		}).Draw(r, "limit"))
		now := time.Date(2026, 3, 7, 23, 0, 0, 0, time.UTC)
		node.base = now.Add(-time.Hour)
		m := &model{&l.Settings, map[uint64][]taking{}}
		step := int64(l.Window)
		if step == 0 {
			step = int64(12 * time.Hour)
		}
		for i := range rapid.IntRange(1, 60).Draw(r, "requests") {
			// In milliseconds, so that no rounding of less than a nanosecond decides.
			now = now.Add(time.Duration(rapid.Int64Range(0, step/2/1e6).Draw(r, "after")) * time.Millisecond)
			key := rapid.Uint64Range(1, 3).Draw(r, "key")
			cost := rapid.Int64Range(1, 3).Draw(r, "cost")
			want := m.passes(key, now, cost)
			if got := l.ask(key, now, cost); got.passes != want {
				r.Fatalf("request %d for %d at %s of %d: %+v, want %t", i, key, now, cost, got, want)
			}
			if want {
				m.taken[key] = append(m.taken[key], taking{now, cost})
			}
			switch rapid.IntRange(0, 5).Draw(r, "also") {
			case 0:
				at := l.moment(now)
				l.table.tidy(&l.meter, &at)
			case 1:
				for k := range uint64(400) { // others come, and the table grows
					l.ask(1000+k, now, 1)
				}
			}
		}
	})
}

// TestChangedLimit holds at once, and keeps the share that was used.
func TestChangedLimit(t *testing.T) {
	node := newNode(t)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	node.base = now.Add(-time.Hour)
	for _, c := range []struct {
		before, after string
		left          int64 // once 50 are taken, and one more is asked for
	}{
		{`{"name": "a", "limit": 100, "window": "10s"}`, `{"name": "a", "limit": 10, "window": "10s"}`, 4},
		{`{"name": "b", "limit": 100, "window": "1h"}`, `{"name": "b", "limit": 10, "window": "1s"}`, -1},
		{
			`{"name": "c", "algorithm": "fixed_window", "limit": 100}`,
			`{"name": "c", "algorithm": "fixed_window", "limit": 60}`, 9,
		},
		{
			`{"name": "d", "algorithm": "fixed_window", "limit": 100}`,
			`{"name": "d", "algorithm": "fixed_window", "limit": 20}`, -1,
		},
		{
			`{"name": "e", "algorithm": "sliding_window", "limit": 100}`,
			`{"name": "e", "algorithm": "sliding_window", "limit": 60}`, 9,
		},
	} {
		before := node.limit(t, c.before)
		if d := before.ask(1, now, 50); !d.passes {
			t.Fatalf("%s: %+v", c.before, d)
		}
		after := node.limit(t, c.after)
		d := after.ask(1, now, 1)
		if d.passes != (c.left >= 0) || d.passes && d.left != c.left {
			t.Errorf("%s: %+v, want %d left", c.after, d, c.left)
		}
		if !d.passes && after.Algorithm == ratelimit.TokenBucket && d.wait > int64(after.Window) {
			t.Errorf("%s: the next one has to wait for %s", c.after, time.Duration(d.wait))
		}
	}
}
