package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/waittest"
)

// Hints, and what happens while the engine is away.

func testWatch(t *testing.T, e Engine) {
	reader := open(t, e)
	writing := reader
	if e.Shared {
		writing = open(t, e)
	}
	w := newWriter(t, writing)
	ctx, cancel := context.WithCancel(t.Context())
	hints := reader.Watch(ctx)
	attempts := 0
	waittest.UntilNil(t, "a hint that does not come from the poll", func() error {
		attempts++
		drain(hints)
		at, r := time.Now(), w.must(route(fmt.Sprint("r", attempts)))
		for {
			waittest.Receive(t, "a hint", hints)
			if all, err := reader.Since(t.Context(), store.Head{Epoch: w.head.Epoch}, 100); err == nil && len(all) == int(r.Number) {
				break
			}
		}
		if took := time.Since(at); took > time.Second { // on a slow machine it may, but not each time
			return fmt.Errorf("it took %s", took)
		}
		return nil
	})
	cancel()
	for range hints { // until it is closed
	}
}

func testWatchEnds(t *testing.T, e Engine) {
	s := e.Open(t)
	hints := s.Watch(t.Context())
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for range hints { // until it is closed
	}
	if _, open := <-s.Watch(t.Context()); open {
		t.Error("a closed store hints")
	}
}

func testReadOnly(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	w.must(route("a"))
	e.ReadOnly(t, true)
	if _, err := w.commit(route("b")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("commit: %v", err)
	}
	if head, _, err := s.Load(t.Context()); err != nil || head != w.head {
		t.Errorf("load: %v, %v", head, err)
	}
	e.ReadOnly(t, false)
	if r := w.must(route("b")); r.Number != 2 {
		t.Errorf("the next revision is %d", r.Number)
	}
}

func testOutage(t *testing.T, e Engine) {
	if e.Stop == nil {
		t.Skip("this engine can't go away")
	}
	s := open(t, e)
	w := newWriter(t, s)
	w.must(route("a"))
	hints := s.Watch(t.Context())
	e.Stop()
	_, commitErr := w.commit(route("b"))
	_, _, loadErr := s.Load(t.Context())
	_, sinceErr := s.Since(t.Context(), w.head, 1)
	_, revisionErr := s.Revision(t.Context(), 1)
	_, _, listErr := s.Revisions(t.Context(), store.List{Limit: 1})
	for call, err := range map[string]error{"commit": commitErr, "load": loadErr, "since": sinceErr, "revision": revisionErr, "revisions": listErr} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s while it is away: %v", call, err)
		}
	}
	e.Start()
	w.must(route("b"))
	// Notifications come again, by themselves: well below the poll's interval each time.
	fast := 0
	waittest.Until(t, "three hints that do not come from the poll", func() bool {
		drain(hints)
		at := time.Now()
		w.must(route("c" + time.Now().Format("150405.000000000")))
		waittest.Receive(t, "a hint", hints)
		if time.Since(at) < time.Second {
			fast++
		}
		return fast == 3
	})
}

func drain(hints <-chan struct{}) {
	select {
	case <-hints:
	default:
	}
}
