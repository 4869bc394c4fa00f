package shutdown

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestStages sends signals at these seconds: each skips what is left of a stage, and a process that is replaced has no
// delay.
func TestStages(t *testing.T) {
	for name, c := range map[string]struct {
		delay    time.Duration
		signals  []int
		replaced int    // when another process has replaced this one; 0: never
		want     string // when each stage has begun, in seconds; -: not by second 60
	}{
		"no signal":                           {5 * time.Second, nil, 0, "- - -"},
		"no delay":                            {0, []int{1}, 0, "1 1 -"},
		"a delay":                             {5 * time.Second, []int{1}, 0, "1 6 -"},
		"a second signal ends the delay":      {5 * time.Second, []int{1, 3}, 0, "1 3 -"},
		"a third one cuts":                    {5 * time.Second, []int{1, 3, 4}, 0, "1 3 4"},
		"a second signal after the delay":     {5 * time.Second, []int{1, 10}, 0, "1 6 10"},
		"replaced":                            {5 * time.Second, nil, 2, "2 2 -"},
		"replaced, and then a signal":         {5 * time.Second, []int{4}, 2, "2 2 4"},
		"replaced after a signal":             {5 * time.Second, []int{1}, 2, "1 2 -"},
		"replaced after a signal, and a next": {5 * time.Second, []int{1, 9}, 2, "1 2 9"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals := make(chan os.Signal, 3)
				s, finish := newStages(t.Context(), signals, c.delay)
				defer finish()
				begin := time.Now()
				stages := []context.Context{s.Asked, s.Closing, s.Cutting}
				at := []string{"-", "-", "-"}
				for second := range 60 {
					for _, when := range c.signals {
						if when == second {
							signals <- syscall.SIGTERM
						}
					}
					if c.replaced > 0 && c.replaced == second {
						s.Close()
					}
					synctest.Wait()
					for i, stage := range stages {
						if at[i] == "-" && stage.Err() != nil {
							at[i] = strings.TrimSuffix(time.Since(begin).String(), "s")
						}
					}
					time.Sleep(time.Second)
				}
				if got := strings.Join(at, " "); got != c.want {
					t.Errorf("asked, closing and cutting at %q, want %q", got, c.want)
				}
			})
		})
	}
}
