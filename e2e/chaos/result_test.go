package chaos

import (
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	const ms = time.Millisecond
	good := func(n int, from time.Duration) (all []outcome) {
		for i := range n {
			at := from + time.Duration(i)*ms
			all = append(all, outcome{begun: at, done: at + ms})
		}
		return all
	}
	bad := func(post bool, begun, done time.Duration) outcome {
		return outcome{post: post, begun: begun, done: done, failed: "broken"}
	}
	for name, c := range map[string]struct {
		scenario     scenario
		outcomes     [][]outcome
		begun, ended time.Duration
		want         result
	}{
		"nothing fails": {
			outcomes: [][]outcome{good(300, 0)}, begun: 100 * ms, ended: 200 * ms,
			want: result{requests: 201},
		},
		"what failed before does not count": {
			outcomes: [][]outcome{{bad(false, 0, 1)}, good(200, 10*ms)}, begun: 5 * ms, ended: 5 * ms,
			want: result{requests: 200},
		},
		"what was under way counts": {
			outcomes: [][]outcome{{bad(false, 0, 20*ms), bad(true, 0, 30*ms)}, good(200, 100*ms)},
			begun:    10 * ms, ended: 10 * ms,
			want: result{requests: 202, failed: 1, posts: 1, slow: 2, recovered: 20 * ms},
		},
		"slow answers are trouble": {
			outcomes: [][]outcome{good(50, 0), {{begun: 0, done: 90 * ms}}, good(100, 100*ms)}, begun: 0, ended: 0,
			want: result{requests: 151, slow: 1, recovered: 90 * ms},
		},
		"one after a hundred good ones is none": {
			outcomes: [][]outcome{good(100, 0), {{begun: 0, done: 200 * ms}}}, begun: 0, ended: 0,
			want: result{requests: 101, slow: 1},
		},
		"never recovered": {
			outcomes: [][]outcome{good(99, 0), {bad(false, 99*ms, 100*ms)}, good(50, 100*ms)}, begun: 0, ended: 0,
			want: result{requests: 150, failed: 1, slow: 1, recovered: -1},
		},
		"an outage counts from the first good answer": {
			scenario: scenario{outage: true},
			outcomes: [][]outcome{
				{bad(false, 0, 5*ms), bad(false, 11*ms, 15*ms)}, good(50, 20*ms), {bad(false, 80*ms, 81*ms)},
				good(100, 90*ms),
			},
			begun: 0, ended: 10 * ms,
			want: result{requests: 153, failed: 1, slow: 2, recovered: 71 * ms},
		},
		"an outage that is not mended counts nothing": {
			scenario: scenario{outage: true},
			outcomes: [][]outcome{good(5, 1*ms), {bad(false, 6*ms, 7*ms), bad(true, 8*ms, 9*ms)}},
			begun:    0, ended: 10 * ms,
			want: result{requests: 7},
		},
		"what can't be saved counts apart": {
			scenario: scenario{lost: true},
			outcomes: [][]outcome{{bad(false, 0, 1*ms)}, good(100, 2*ms)}, begun: 0, ended: 0,
			want: result{requests: 101, posts: 1, slow: 1, recovered: 1 * ms},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var all []outcome
			for _, some := range c.outcomes {
				all = append(all, some...)
			}
			var got result
			got.judge(&c.scenario, all, c.begun, c.ended)
			got.first = ""
			if got != c.want {
				t.Errorf("it is %+v, not %+v", got, c.want)
			}
		})
	}
}
