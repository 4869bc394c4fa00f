package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gateway.internal/controlplane/internal/store"
)

// turns is a lock that may be waited for in vain.
type turns chan struct{}

func newTurns() turns { return make(turns, 1) }

// turnLook is how often whoever waits for a turn looks whether the store is there.
const turnLook = 100 * time.Millisecond

// take waits for a turn, until ctx ends.
func (t turns) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// takeToCommit waits for a turn too, and ends with store.ErrUnavailable once the store is away: whoever has the turn
// may need seconds to be sure of that, and those who wait would need as long, one after the other.
func (t turns) takeToCommit(ctx context.Context, s store.Store) error {
	select {
	case t <- struct{}{}:
		return nil
	default:
	}
	look := time.NewTicker(turnLook)
	defer look.Stop()
	for {
		has := false
		select {
		case t <- struct{}{}:
			has = true
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
		if err := s.Err(); err != nil {
			if has {
				t.leave()
			}
			if errors.Is(err, store.ErrUnavailable) {
				return err
			}
			return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		}
		if has {
			return nil
		}
	}
}

func (t turns) leave() { <-t }
