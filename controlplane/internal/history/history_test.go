package history

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"gateway.internal/controlplane/internal/store"
)

// double is a store that is asked, and a model that is told.
type double struct {
	asked []store.Keep
	at    []time.Duration
	told  int
	err   error
	began time.Time
}

func (d *double) Prune(_ context.Context, keep store.Keep, dry bool) (int, error) {
	if dry {
		return 0, errors.New("a dry run")
	}
	d.asked, d.at = append(d.asked, keep), append(d.at, time.Since(d.began))
	if d.err != nil {
		return 0, d.err
	}
	return len(d.asked) % 2, nil
}

func (d *double) SeeHistory(context.Context) error {
	d.told++
	return nil
}

func TestPruner(t *testing.T) {
	for _, test := range []struct {
		args string
		want func(now time.Time) store.Keep
	}{
		{args: ""},
		{"--history-newest 7", func(time.Time) store.Keep { return store.Keep{Newest: 7} }},
		{"--history-age 2h", func(now time.Time) store.Keep { return store.Keep{Since: now.Add(-2 * time.Hour)} }},
		{"--history-newest 7 --history-age 2h", func(now time.Time) store.Keep {
			return store.Keep{Newest: 7, Since: now.Add(-2 * time.Hour)}
		}},
	} {
		t.Run(test.args, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &double{began: time.Now()}
				p, err := parse(t, test.args).Pruner(d, d, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				if test.want == nil {
					if p != nil {
						t.Error("something is pruned though nobody asked for it")
					}
					return
				}
				ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
				defer cancel()
				if err := p.Run(ctx); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff([]time.Duration{0, time.Minute, 2 * time.Minute}, d.at); diff != "" {
					t.Error(diff)
				}
				for i, got := range d.asked {
					if diff := cmp.Diff(test.want(d.began.Add(d.at[i])), got); diff != "" {
						t.Error(diff)
					}
				}
				if d.told != 2 {
					t.Errorf("the model was told %d times of two", d.told)
				}
			})
		})
	}
}

// TestPrunerGoesOn: what fails is tried again, and said once.
func TestPrunerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &double{began: time.Now(), err: errors.New("no")}
		var said strings.Builder
		p, err := parse(t, "--history-newest 1").Pruner(d, d, slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if err := p.Run(ctx); err != nil || len(d.asked) < 5 || strings.Count(said.String(), "can't be pruned") != 1 {
			t.Errorf("%v; asked %d times, said %q", err, len(d.asked), said.String())
		}
	})
}

func TestFlagsAreChecked(t *testing.T) {
	for _, args := range []string{"--history-age -1h", "--history-newest 4000000000"} {
		_, err := parse(t, args).Pruner(nil, nil, nil)
		if err == nil || !strings.Contains(err.Error(), strings.Fields(args)[0]) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func parse(t *testing.T, args string) *Flags {
	t.Helper()
	var f Flags
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.Bind(set)
	if err := set.Parse(strings.Fields(args)); err != nil {
		t.Fatal(err)
	}
	return &f
}
