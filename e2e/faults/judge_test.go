package faults

import (
	"strings"
	"testing"
	"time"
)

// TestJudge: what writers were told against what there is.
func TestJudge(t *testing.T) {
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	attempts := []attempt{
		{message: "done", sent: at(1), told: at(2), outcome: acknowledged, revision: 1},
		{message: "lost", sent: at(1), told: at(2), outcome: acknowledged, revision: 2},
		{message: "elsewhere", sent: at(1), told: at(2), outcome: acknowledged, revision: 3},
		{message: "twice", sent: at(1), told: at(2), outcome: acknowledged, revision: 5},
		{message: "refused", sent: at(1), told: at(2), outcome: refused},
		{message: "refused, but done", sent: at(1), told: at(2), outcome: refused},
		{message: "unknown", sent: at(1), told: at(9), outcome: unknown, text: "slow"},
		{message: "unknown, but done", sent: at(7), told: at(8), outcome: unknown},
		{message: "late", sent: at(7), told: at(8), outcome: acknowledged, revision: 8},
	}
	history := map[string][]uint32{
		"done": {1}, "elsewhere": {4}, "twice": {5, 6}, "refused, but done": {7}, "unknown, but done": {9}, "late": {8},
	}
	var row, restored Row
	judge(&row, attempts, history, at(5), false)
	want := Row{
		Acknowledged: 5, Lost: 2, Twice: 1, Against: 1, Unknown: 2, Done: 1, Longest: 8 * time.Second, Told: "slow",
	}
	if row != want {
		t.Errorf("got %+v", row)
	}
	wrong := row.wrong()
	for _, what := range []string{"2 acknowledged commits are lost", "1 refused commits were done"} {
		if !strings.Contains(wrong, what) {
			t.Errorf("it says %q, and not %q", wrong, what)
		}
	}
	judge(&restored, attempts, history, at(5), true)
	want = Row{Acknowledged: 1, Twice: 1, Unknown: 1, Done: 1, Longest: 8 * time.Second, Told: "slow"}
	if restored != want {
		t.Errorf("after a restore: %+v", restored)
	}
}

func TestDescribe(t *testing.T) {
	at := func(tenth int64) time.Time { return time.Unix(100, tenth*1e8) }
	yes := func(tenths ...int64) (all []look) {
		for _, n := range tenths {
			all = append(all, look{at: at(n), ready: true})
		}
		return all
	}
	no := look{at: at(25), reason: "the store is away"}
	again := func(first []look, tenths ...int64) []look { return append(first, yes(tenths...)...) }
	silent := look{at: at(12), reason: "no answer"}
	for want, looks := range map[string][][]look{
		"yes all along": {yes(1, 11, 40), yes(2)},
		"no at 1 of 2 after 1.5 s; yes 1.0 s after the end": {again([]look{no}, 40), yes(2)},
		"no at 1 of 2 after 1.5 s, 1 of 2 silent; yes 0.2 s after the end": {
			again([]look{no}, 32), again([]look{silent}, 31),
		},
		"no at 2 of 2 after 1.5 s; yes 0.0 s after the end": {again([]look{no}, 27), again([]look{no}, 28)},
	} {
		if got := describe(looks, at(10), at(30)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
