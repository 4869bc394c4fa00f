package sql

import (
	"context"
	"time"
)

// pollInterval is how often Watch hints without a reason.
const pollInterval = 5 * time.Second

// Watch implements store.Store. The channel is closed at Close too.
func (s *Store) Watch(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	hinted := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		close(out)
		return out
	}
	s.watchers[hinted] = struct{}{}
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(s.closing, cancel)
	s.watches.Go(func() { s.dialect.watch(ctx, func() { poke(hinted) }) })
	s.watches.Go(func() {
		tick := time.NewTicker(pollInterval)
		defer func() {
			tick.Stop()
			unhook()
			cancel()
			s.mu.Lock()
			delete(s.watchers, hinted)
			s.mu.Unlock()
			close(out)
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case <-hinted:
			case <-tick.C:
			}
			poke(out)
		}
	})
	return out
}

// hint tells this process's watchers.
func (s *Store) hint() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		poke(w)
	}
}

// poke leaves a hint where there is none yet.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
