// Package history keeps the history as short as the operator wants it: it removes old revisions from time to time. It
// does not know what a revision is.
package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/spf13/pflag"

	"gateway.internal/controlplane/internal/store"
)

// interval is how often it is looked for what may go.
const interval = time.Minute

// Flags are the settings on a command line.
type Flags struct {
	newest uint32
	age    time.Duration
}

// Bind declares the flags.
func (f *Flags) Bind(set *pflag.FlagSet) {
	set.Uint32Var(&f.newest, "history-newest", 0,
		"keep so many of the newest revisions, and what --history-age keeps; 0, and no --history-age: all")
	set.DurationVar(&f.age, "history-age", 0,
		"keep revisions that are not older, such as 2160h, and what --history-newest keeps; 0, and no --history-newest: all")
}

// Store is what the pruner needs of the store.
type Store interface {
	Prune(ctx context.Context, keep store.Keep, dry bool) (int, error)
}

// Model is what has to know of what went.
type Model interface {
	SeeHistory(ctx context.Context) error
}

// Pruner prunes. Of several control planes that share a store each has one; they may have the same work.
type Pruner struct {
	flags Flags
	store Store
	model Model
	log   *slog.Logger
}

// Pruner returns the pruner that the flags describe; nil where all is kept.
func (f *Flags) Pruner(s Store, m Model, log *slog.Logger) (*Pruner, error) {
	if f.age < 0 {
		return nil, fmt.Errorf("--history-age %s: has to be positive, or 0", f.age)
	}
	if f.newest > math.MaxInt32 {
		return nil, fmt.Errorf("--history-newest %d: has to be from 0 to %d", f.newest, math.MaxInt32)
	}
	if f.newest == 0 && f.age == 0 {
		return nil, nil //nolint:nilnil // it is an option
	}
	return &Pruner{*f, s, m, log}, nil
}

// Run prunes until ctx ends. While the store is away, nothing is pruned.
func (p *Pruner) Run(ctx context.Context) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	failing := false
	for {
		err := p.prune(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing && !errors.Is(err, store.ErrUnavailable): // which the store says itself
			p.log.Error("the history can't be pruned", "error", err.Error())
		}
		failing = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *Pruner) prune(ctx context.Context) error {
	keep := store.Keep{Newest: int(p.flags.newest)}
	if p.flags.age > 0 {
		keep.Since = time.Now().Add(-p.flags.age)
	}
	n, err := p.store.Prune(ctx, keep, false)
	if n > 0 {
		p.log.Info("the history was pruned", "removed", n)
		err = errors.Join(err, p.model.SeeHistory(ctx))
	}
	return err
}
