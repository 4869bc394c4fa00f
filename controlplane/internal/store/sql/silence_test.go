package sql

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestLongWork: a limit is for an engine that is silent, not for work that takes long.
func TestLongWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{presence: newPresence()}
		ctx, cancel, err := s.within(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		for range 10 {
			time.Sleep(59 * time.Second) // virtual
			answered(ctx)
		}
		if ctx.Err() != nil {
			t.Fatalf("ended although the engine has answered each 59 s: %v", context.Cause(ctx))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := context.Cause(ctx); !errors.Is(err, errNoAnswer) {
			t.Errorf("a minute after the last answer: %v", err)
		}
	})
}

// TestLongStatement: a migration may take longer than any limit, but an engine that is found to be away ends it.
func TestLongStatement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{presence: newPresence()}
		ctx, cancel, err := s.within(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		end := waitLong(ctx, time.Second)
		defer end()
		time.Sleep(time.Hour) // virtual
		if ctx.Err() != nil {
			t.Fatalf("ended although the engine is there: %v", context.Cause(ctx))
		}
		s.presence.leave(errNoAnswer)
		synctest.Wait()
		if err := context.Cause(ctx); !errors.Is(err, errNoAnswer) {
			t.Errorf("once the engine was away: %v", err)
		}
	})
}
