package access

import (
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/controlplane/internal/store"
)

// TestHolds: what lets in does so until it is revoked, forgotten or over.
func TestHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		one := store.Token{ID: "1", CreatedAt: now, ExpiresAt: now.Add(time.Minute)}
		of := &Identity{TokenID: "1", Expires: one.ExpiresAt}
		var tokens Tokens
		know := func(list ...store.Token) {
			set := &tokenSet{byID: map[string]*entry{}}
			for _, token := range list {
				set.byID[token.ID] = &entry{token: token}
			}
			tokens.known.Store(set)
		}
		check := func(what string, id *Identity, want bool) {
			t.Helper()
			if got := tokens.Holds(id); got != want {
				t.Errorf("%s: %t", what, got)
			}
		}
		know(one)
		check("a token", of, true)
		check("the administrator's", administratorIdentity, true)
		provided := &Identity{Expires: now.Add(time.Second)}
		check("a provider's", provided, true)
		revoked := one
		revoked.RevokedAt = now
		know(revoked)
		check("one that was revoked", of, false)
		know()
		check("one that was forgotten", of, false)
		know(one)
		time.Sleep(2 * time.Second)
		check("a provider's that is over", provided, false)
		time.Sleep(time.Minute)
		check("a token that is over", of, false)
	})
}
