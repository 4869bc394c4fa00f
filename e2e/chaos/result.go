package chaos

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

const (
	// slow is how long a good answer takes at the most.
	slow = 80 * time.Millisecond
	// goodInARow is how many requests have to be answered well and fast for a service to have recovered.
	goodInARow = 100
)

// judge finds in the outcomes, which are in the order of their ends, what came of a fault.
func (res *result) judge(s *scenario, outcomes []outcome, begun, ended time.Duration) {
	back := begun
	if s.outage {
		back = time.Hour
		for _, o := range outcomes {
			if o.begun >= ended && o.failed == "" {
				back = min(back, o.done)
			}
		}
	}
	from := begun
	if s.outage {
		from = ended
	}
	inRow, trouble := 0, false
	for _, o := range outcomes {
		if o.done < begun {
			continue
		}
		res.requests++
		if o.failed != "" && (!s.outage || o.begun >= back) {
			if o.post || s.lost {
				res.posts++
			} else {
				res.failed++
			}
			if res.first == "" {
				res.first = fmt.Sprintf("post: %t, of %s after %s: %s", o.post, o.endpoint, o.done-o.begun, o.failed)
			}
		}
		switch {
		case o.done < from:
		case o.failed != "" || o.done-o.begun > slow:
			res.slow++
			if inRow < goodInARow {
				res.recovered, inRow, trouble = o.done-from, 0, true
			}
		default:
			inRow++
		}
	}
	if trouble && inRow < goodInARow {
		res.recovered = -1
	}
}

// check fails a test when more requests failed than may.
func (res *result) check(t testing.TB, s *scenario) {
	t.Helper()
	if res.failed > 0 || res.posts > s.posts {
		t.Errorf("of %d requests %d failed that another endpoint could have served, and %d that may not be sent "+
			"again, of which %d may fail; the first: %s", res.requests, res.failed, res.posts, s.posts, res.first)
	}
}

// table writes results as a Markdown table: a row for each scenario, with the result of each proxy.
func table(to io.Writer, rows [][]result) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprint(to, "| scenario |")
	for _, r := range rows[0] {
		fmt.Fprintf(to, " %s |", r.proxy)
	}
	fmt.Fprintf(to, "\n|---|%s\n", strings.Repeat("---|", len(rows[0])))
	for _, row := range rows {
		fmt.Fprintf(to, "| %s |", row[0].scenario)
		for _, r := range row {
			fmt.Fprintf(to, " %s |", r.cell())
		}
		fmt.Fprintln(to, strings.Repeat(" |", len(rows[0])-len(row)))
	}
}

func (res *result) cell() string {
	if res.skipped != "" {
		return "left out: " + res.skipped
	}
	text := fmt.Sprintf("%d + %d, %s", res.failed, res.posts, seconds(res.recovered))
	if res.unequal {
		return fmt.Sprintf("%d + %d, %d of %d slow", res.failed, res.posts, res.slow, res.requests)
	}
	if res.again > 0 {
		text += ", back " + seconds(res.again)
	}
	if res.attempts > 0 {
		text += fmt.Sprintf(", load %.2f", res.attempts)
	}
	return text
}

func seconds(d time.Duration) string {
	if d < 0 {
		return "never"
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
