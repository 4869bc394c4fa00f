package catalog

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/controlplane/internal/store"
)

// away is a store of which only Err is asked.
type away struct {
	store.Store
	mu  sync.Mutex
	err error
}

func (a *away) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func (a *away) set(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

// TestNobodyQueuesForTheDead: whoever waits behind one that waits for a store is told when that is found to be away,
// not when it is its turn.
func TestNobodyQueuesForTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns, s := newTurns(), &away{}
		if err := turns.takeToCommit(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		patient, end := context.WithTimeout(t.Context(), time.Minute)
		defer end()
		var all sync.WaitGroup
		for range 9 {
			all.Go(func() {
				err := turns.takeToCommit(patient, s)
				if !errors.Is(err, store.ErrUnavailable) || time.Since(began) > 6*time.Second {
					t.Errorf("%v after %v", err, time.Since(began))
				}
			})
		}
		time.Sleep(5 * time.Second)
		s.set(errors.New("no answer"))
		all.Wait()
		// Whoever gets the turn of a store that is away by then gives it on.
		s.set(nil)
		late := make(chan error)
		go func() { late <- turns.takeToCommit(patient, s) }()
		synctest.Wait()
		s.set(errors.New("no answer"))
		turns.leave()
		if err := <-late; !errors.Is(err, store.ErrUnavailable) || len(turns) != 0 {
			t.Fatalf("whose turn it is: %v; %d have it", err, len(turns))
		}
		if err := turns.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := turns.takeToCommit(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller who goes away: %v", err)
		}
		go func() {
			time.Sleep(time.Minute)
			s.set(nil)
			turns.leave()
		}()
		if err := turns.take(t.Context()); err != nil { // it is for who finds out
			t.Error(err)
		}
		turns.leave()
		if err := turns.takeToCommit(t.Context(), s); err != nil {
			t.Errorf("when it is there again: %v", err)
		}
	})
}
