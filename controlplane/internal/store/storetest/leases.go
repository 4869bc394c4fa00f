package storetest

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"gateway.internal/controlplane/internal/store"
)

// What control planes share beside the configuration.

func testLeases(t *testing.T, e Engine) {
	a := open(t, e)
	b := a
	if e.Shared {
		b = open(t, e)
	}
	ask := func(s store.Store, name, holder string, ttl time.Duration, want bool) {
		t.Helper()
		if held, err := s.Acquire(t.Context(), name, holder, ttl); err != nil || held != want {
			t.Errorf("%s asks for %s: %v, %v", holder, name, held, err)
		}
	}
	ask(a, "x", "ann", time.Hour, true)
	ask(b, "x", "bob", time.Hour, false)
	ask(b, "y", "bob", time.Hour, true) // another lease
	ask(a, "x", "ann", 50*time.Millisecond, true)
	for start := time.Now(); ; { // it ends by itself
		held, err := b.Acquire(t.Context(), "x", "bob", time.Hour)
		if err != nil || time.Since(start) > 10*time.Second {
			t.Fatalf("the lease does not end: %v", err)
		}
		if held {
			break
		}
	}
	ask(a, "x", "ann", time.Hour, false)
	if err := a.Release(t.Context(), "x", "ann"); err != nil {
		t.Error(err)
	}
	ask(a, "x", "ann", time.Hour, false) // who has lost it can't give it back
	if err := b.Release(t.Context(), "x", "bob"); err != nil {
		t.Error(err)
	}
	ask(a, "x", "ann", time.Hour, true)

	// Of many that ask at once one has it.
	var all sync.WaitGroup
	var mu sync.Mutex
	holders := 0
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		all.Go(func() {
			held, err := []store.Store{a, b}[name[0]%2].Acquire(t.Context(), "z", name, time.Hour)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if held {
				holders++
			}
		})
	}
	all.Wait()
	if holders != 1 {
		t.Errorf("%d have the lease", holders)
	}
}

func testSecrets(t *testing.T, e Engine) {
	a := open(t, e)
	value := []byte{0, 1, 0xff}
	broken := errors.New("broken")
	if _, err := a.Secret(t.Context(), "x", func() ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("a secret that can't be made: %v", err)
	}
	if got, err := a.Secret(t.Context(), "x", func() ([]byte, error) { return value, nil }); err != nil || !bytes.Equal(got, value) {
		t.Errorf("made: %v, %v", got, err)
	}
	b := a
	if e.Shared {
		b = open(t, e)
	}
	again := func() ([]byte, error) { return nil, broken }
	if got, err := b.Secret(t.Context(), "x", again); err != nil || !bytes.Equal(got, value) {
		t.Errorf("kept: %v, %v", got, err)
	}
	// Somebody else is faster.
	got, err := b.Secret(t.Context(), "y", func() ([]byte, error) {
		_, err := a.Secret(t.Context(), "y", func() ([]byte, error) { return value, nil })
		return []byte("late"), err
	})
	if err != nil || !bytes.Equal(got, value) {
		t.Errorf("late: %v, %v", got, err)
	}
}
