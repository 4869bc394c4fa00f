package access

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/internal/store/sql"
	"gateway.internal/shared/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// form is what the guide gives scanners for secrets.
var form = regexp.MustCompile(`^gwa_[0-9A-Za-z]{49}$`)

func TestTokensHaveAForm(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		text, err := NewToken()
		if err != nil || !form.MatchString(text) || !IsToken(text) || seen[text] {
			t.Fatalf("%q, %v", text, err)
		}
		seen[text] = true
		for i := range text {
			other := byte('A')
			if text[i] == other {
				other = 'B'
			}
			if wrong := text[:i] + string(other) + text[i+1:]; IsToken(wrong) {
				t.Errorf("%s is a token, and so is %s", text, wrong)
			}
		}
	}
	for _, text := range []string{"", "gwa_", "the-administrators-token", strings.Repeat("gwa_", 14)} {
		if IsToken(text) {
			t.Errorf("%q is a token", text)
		}
	}
}

// newTokens follow a store.
func newTokens(t *testing.T, s store.Store) *Tokens {
	t.Helper()
	tokens := NewTokens(s, "the-administrators-token", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tokens.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return tokens
}

func newStore(t *testing.T) store.Store {
	t.Helper()
	s, err := sql.Open(t.Context(), "embedded:"+filepath.Join(t.TempDir(), "g.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestOtherReplicasFollow: what one control plane makes or revokes is known to another one that follows the store.
func TestOtherReplicasFollow(t *testing.T) {
	s := newStore(t)
	one, other := newTokens(t, s), newTokens(t, s)
	text, err := NewToken()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Lookup(t.Context(), text); !errors.Is(err, ErrNobody) {
		t.Fatalf("before it is made: %v", err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	token := store.Token{ID: "1", Name: "deploy", Hash: HashOf(text), Role: "editor",
		CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
	if err := one.Create(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if id, err := one.Lookup(t.Context(), text); err != nil || id.Name != "deploy" || id.Role != Editor {
		t.Errorf("where it was made: %v, %v", id, err)
	}
	waittest.UntilNil(t, "the token is known to the other one", func() error {
		_, err := other.Lookup(t.Context(), text)
		return err
	})
	if err := one.Revoke(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Lookup(t.Context(), text); !errors.Is(err, ErrNobody) {
		t.Errorf("where it was revoked: %v", err)
	}
	begun := time.Now()
	waittest.UntilNil(t, "the other one knows that it was revoked", func() error {
		if _, err := other.Lookup(t.Context(), text); !errors.Is(err, ErrNobody) {
			return errors.New("it lets in")
		}
		return nil
	})
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("that took %s", took)
	}
	if id, err := other.Lookup(t.Context(), "the-administrators-token"); err != nil || id.Role != Admin {
		t.Errorf("the administrator: %v, %v", id, err)
	}
}

// TestTokensEnd by themselves.
func TestTokensEnd(t *testing.T) {
	s := newStore(t)
	tokens := NewTokens(s, "the-administrators-token", slog.New(slog.DiscardHandler))
	text, err := NewToken()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	ended := store.Token{ID: "1", Name: "a", Hash: HashOf(text), Role: "admin",
		CreatedAt: now.Add(-time.Hour), ExpiresAt: now}
	if err := tokens.Create(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Lookup(t.Context(), text); !errors.Is(err, ErrNobody) {
		t.Errorf("a token that has ended: %v", err)
	}
}

// TestUseIsWritten: when tokens were used is in the store, at the end of the process at the latest.
func TestUseIsWritten(t *testing.T) {
	s := newStore(t)
	tokens := NewTokens(s, "the-administrators-token", slog.New(slog.DiscardHandler))
	text, err := NewToken()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	token := store.Token{ID: "1", Name: "a", Hash: HashOf(text), Role: "admin",
		CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
	if err := tokens.Create(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Lookup(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tokens.Run(ctx); err != nil {
		t.Fatal(err)
	}
	list, _, err := s.Tokens(t.Context(), -1)
	if err != nil || len(list) != 1 || list[0].LastUsedAt.Before(now) {
		t.Errorf("the store has %v, %v", list, err)
	}
}
