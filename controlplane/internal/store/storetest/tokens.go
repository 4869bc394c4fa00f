package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gateway.internal/controlplane/internal/store"
)

// testTokens keeps tokens of the admin API. One that is open at the same time sees them.
func testTokens(t *testing.T, e Engine) {
	a := open(t, e)
	b := a
	if e.Shared {
		b = open(t, e)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	token := func(id, name string, ends time.Time) store.Token {
		out := store.Token{ID: id, Name: name, Role: "editor", Kinds: []string{"routes", "services"},
			Labels: map[string]string{"team": "a\x00'\"; --"}, User: "ann", CreatedBy: "admin", CreatedAt: now, ExpiresAt: ends}
		copy(out.Hash[:], "hash of "+id)
		return out
	}
	list := func(s store.Store, known int64, want ...store.Token) int64 {
		t.Helper()
		got, changes, err := s.Tokens(t.Context(), known)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("the tokens (-want +got):\n%s", d)
		}
		return changes
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first := list(a, -1)
	watch := b.Watch(t.Context())
	hinted := func(after string) {
		t.Helper()
		select {
		case <-watch:
		case <-time.After(30 * time.Second):
			t.Fatalf("no hint after 30 s of waiting for one, after %s", after)
		}
	}
	one, two := token("1", "deploy", now.Add(time.Hour)), token("2", "backup", now.Add(time.Minute))
	two.Kinds, two.Labels, two.User = nil, nil, ""
	must(a.CreateToken(t.Context(), one))
	hinted("a creation")
	must(b.CreateToken(t.Context(), two))
	second := list(b, first, two, one)
	if list(a, second); second == first {
		t.Error("a creation is no change")
	}

	if err := b.CreateToken(t.Context(), token("3", "deploy", now.Add(time.Hour))); !errors.Is(err, store.ErrTokenExists) {
		t.Errorf("a second one of that name: %v", err)
	}
	again := token("4", "backup", now.Add(time.Hour))
	again.CreatedAt = now.Add(2 * time.Minute) // when the first one has ended
	must(a.CreateToken(t.Context(), again))
	must(a.UseTokens(t.Context(), map[string]time.Time{"1": now.Add(time.Second), "nobody": now}))
	must(b.UseTokens(t.Context(), map[string]time.Time{"1": now}))
	one.LastUsedAt = now.Add(time.Second)
	if err := a.RevokeToken(t.Context(), "5", now); !errors.Is(err, store.ErrNoToken) {
		t.Errorf("revoke one that is not there: %v", err)
	}
	before := list(b, second, two, again, one)
	must(a.RevokeToken(t.Context(), "1", now.Add(time.Minute)))
	hinted("a revocation")
	if err := b.RevokeToken(t.Context(), "1", now.Add(time.Hour)); !errors.Is(err, store.ErrNoToken) {
		t.Errorf("revoke it again: %v", err)
	}
	one.RevokedAt = now.Add(time.Minute)
	list(b, before, two, again, one)
	must(b.CreateToken(t.Context(), token("6", "deploy", now.Add(time.Hour)))) // the name is free
}
