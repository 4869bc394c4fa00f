package access

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/internal/store/sql"
	"gateway.internal/controlplane/testserver"
)

// TestTokensOfABackup: a backup that is restored under control planes that go on brings back no token that they know to
// be revoked, and what changes afterwards is known to all of them.
func TestTokensOfABackup(t *testing.T) {
	server, log := testserver.NewPostgreSQL(t), slog.New(slog.DiscardHandler)
	open := func() *Tokens {
		s, err := sql.Open(t.Context(), server.URL, log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return NewTokens(s, "the-administrators-token", log)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	one, other := open(), open()
	texts := map[string]string{}
	now := time.Now().UTC().Truncate(time.Microsecond)
	for _, id := range []string{"first", "second"} {
		text, err := NewToken()
		must(err)
		texts[id] = text
		must(one.Create(t.Context(), store.Token{ID: id, Name: id, Hash: HashOf(text), Role: "editor", CreatedAt: now,
			ExpiresAt: now.Add(time.Hour)}))
	}
	backup := server.Dump()
	must(one.Revoke(t.Context(), "first"))
	must(other.Refresh(t.Context()))
	server.Restore(backup)
	must(one.Revoke(t.Context(), "second")) // as many changes as before
	must(other.Refresh(t.Context()))
	for name, tokens := range map[string]*Tokens{"one": one, "other": other} {
		for id, text := range texts {
			if _, err := tokens.Lookup(t.Context(), text); !errors.Is(err, ErrNobody) {
				t.Errorf("%s lets in by the %s token: %v", name, id, err)
			}
		}
	}
	must(other.Revoke(t.Context(), "first")) // again, since the store has lost it
	late := open()
	for id, text := range texts {
		if _, err := late.Lookup(t.Context(), text); !errors.Is(err, ErrNobody) {
			t.Errorf("one that starts later lets in by the %s token: %v", id, err)
		}
	}
}
