package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
)

// Revisions follow one another without gaps, whoever writes them.

func testPlans(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	w.must(route("a"))
	if r := w.must(route("a")); r.Number != 0 {
		t.Errorf("nothing was committed as revision %d", r.Number)
	}
	boom := errors.New("boom")
	if _, err := s.Commit(t.Context(), w.head, func([]store.Revision) (*store.Draft, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if r := w.must(route("b")); r.Number != 2 {
		t.Errorf("the next revision is %d", r.Number)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx, w.head, func([]store.Revision) (*store.Draft, error) { return &store.Draft{}, nil }); err == nil {
		t.Error("committed after the caller had gone")
	}
}

// testDangling: a control plane validates references; should one fail to, the store does not take it, and goes on.
func testDangling(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	_, err := s.Commit(t.Context(), w.head, func([]store.Revision) (*store.Draft, error) {
		m := &configv1.Route{Id: uuid.NewString(), Name: "a", ServiceId: uuid.NewString(), CreatedAt: stamp(), UpdatedAt: stamp()}
		return &store.Draft{Changes: []config.Change{{Kind: config.Route, After: configtest.Entry(t, m)}}}, nil
	})
	if err == nil || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if r := w.must(route("b")); r.Number != 1 {
		t.Errorf("the next revision is %d", r.Number)
	}
}

func testImpatient(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	_, err := s.Commit(t.Context(), w.head, func([]store.Revision) (*store.Draft, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		at := time.Now()
		_, err := s.Commit(ctx, w.head, func([]store.Revision) (*store.Draft, error) { return &store.Draft{}, nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while another one writes: %v", err)
		}
		if took := time.Since(at); took > 3*time.Second {
			t.Errorf("gave up after %v", took)
		}
		return nil, nil //nolint:nilnil // nothing to commit
	})
	if err != nil {
		t.Error(err)
	}
	w.must(route("a"))
}

func testConcurrent(t *testing.T, e Engine) {
	stores := []store.Store{open(t, e)}
	if e.Shared {
		stores = append(stores, open(t, e))
	}
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for i := range writers {
		w := newWriter(t, stores[i%len(stores)])
		wg.Go(func() {
			for j := range each {
				if _, err := w.commit(route(fmt.Sprintf("w%d-%d", i, j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	head, c, err := stores[0].Load(t.Context())
	if err != nil || head.Number != writers*each || c.Len(config.Route) != writers*each {
		t.Errorf("head %d with %d routes, %v; want %d", head.Number, c.Len(config.Route), err, writers*each)
	}
	all, err := stores[0].Since(t.Context(), store.Head{Epoch: head.Epoch}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range all {
		if r.Number != uint32(i+1) {
			t.Fatalf("revision %d stands at place %d", r.Number, i+1)
		}
	}
}

// testFirstContact: the schema is made once, whoever comes first.
func testFirstContact(t *testing.T, e Engine) {
	if !e.Shared {
		t.Skip("one process at a time")
	}
	epochs := make([]string, 4)
	var wg sync.WaitGroup
	for i := range epochs {
		s := open(t, e)
		wg.Go(func() {
			head, _, err := s.Load(t.Context())
			if err != nil {
				t.Error(err)
			}
			epochs[i] = head.Epoch
		})
	}
	wg.Wait()
	for _, epoch := range epochs {
		if epoch == "" || epoch != epochs[0] {
			t.Errorf("epochs %q", epochs)
		}
	}
}

func testHistory(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	for i := range 5 {
		w.must(route(fmt.Sprint("r", i)))
	}
	list, total, err := s.Revisions(t.Context(), store.List{Offset: 1, Limit: 2})
	if err != nil || total != 5 || len(list) != 2 || list[0].Number != 4 || list[0].ChangeCount != 1 || list[0].Author != "ann" {
		t.Errorf("got %v of %d, %v", list, total, err)
	}
	if _, total, _ := s.Revisions(t.Context(), store.List{Author: "bob", Limit: 2}); total != 0 {
		t.Errorf("bob has %d revisions", total)
	}
	r, err := s.Revision(t.Context(), 3)
	if err != nil || len(r.Changes) != 1 || r.Changes[0].Name() != "r2" || r.Message != "m" {
		t.Errorf("got %v, %v", r, err)
	}
}

// testAnotherHistory: a store that has another content where a caller knows one is not the one that the caller has read
// from.
func testAnotherHistory(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	first := w.must(route("a"))
	w.must(route("b"))
	known := store.Head{Epoch: w.head.Epoch, Number: first.Number, Hash: first.Hash}
	if list, err := s.Since(t.Context(), known, 10); err != nil || len(list) != 1 {
		t.Errorf("since what is known: %d, %v", len(list), err)
	}
	other := known
	other.Hash[0]++
	if _, err := s.Since(t.Context(), other, 10); !errors.Is(err, store.ErrEpochChanged) {
		t.Errorf("since another content: %v", err)
	}
	plan := func([]store.Revision) (*store.Draft, error) { t.Error("planned"); return nil, nil } //nolint:nilnil // nothing to commit
	if _, err := s.Commit(t.Context(), other, plan); !errors.Is(err, store.ErrEpochChanged) {
		t.Errorf("a commit on another content: %v", err)
	}
	if err := s.BeginEpoch(t.Context(), known.Epoch); err != nil {
		t.Fatal(err)
	}
	head, _, err := s.Load(t.Context())
	if err != nil || head.Epoch == known.Epoch || head.Number != 2 {
		t.Errorf("the new epoch's head is %v, %v; it was %v", head, err, known)
	}
	if err := s.BeginEpoch(t.Context(), known.Epoch); err != nil {
		t.Error(err)
	}
	if again, _, err := s.Load(t.Context()); err != nil || again.Epoch != head.Epoch {
		t.Errorf("an epoch that is over began another one: %v, %v", again, err)
	}
}

func testAllowedShrink(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	check := func(want uint32) {
		t.Helper()
		head, _, err := s.Load(t.Context())
		if err != nil || head.AllowedShrink != want {
			t.Errorf("revision %d is said to have been allowed to shrink, not %d; %v", head.AllowedShrink, want, err)
		}
	}
	w.must(route("a"))
	check(0)
	w.allow = true
	w.must(route("b"))
	w.allow = false
	w.must(route("c"))
	check(2)
	if err := s.BeginEpoch(t.Context(), "another one"); err != nil {
		t.Fatal(err)
	}
	check(2)
	if err := s.BeginEpoch(t.Context(), w.head.Epoch); err != nil {
		t.Fatal(err)
	}
	check(0)
}

func testEpoch(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	w.must(route("a"))
	e.NewEpoch(t)
	if _, err := s.Since(t.Context(), w.head, 10); !errors.Is(err, store.ErrEpochChanged) {
		t.Errorf("since: %v", err)
	}
	if _, err := w.commit(route("b")); !errors.Is(err, store.ErrEpochChanged) {
		t.Errorf("commit: %v", err)
	}
	w = newWriter(t, s)
	if r := w.must(route("b")); r.Number != 2 {
		t.Errorf("went on with revision %d", r.Number)
	}
}
