package access

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"time"

	"github.com/google/uuid"

	"gateway.internal/controlplane/internal/store"
)

// SessionPrefix is what the texts begin with that the cookies of sessions have.
const SessionPrefix = "gws_"

// SessionTTL is how long a session lasts at most; it never outlives what it was opened with.
const SessionTTL = 12 * time.Hour

// BySession is the cookie of a session.
const BySession Method = "session"

// administratorSessions is what sessions are of that were opened with the administrator's own token: another one of
// them ends them.
func (t *Tokens) administratorSessions() string {
	sum := sha256.Sum256(t.administrator[:])
	return "administrator:" + hex.EncodeToString(sum[:8])
}

// OpenSession makes a session for an identity, and returns the text of its cookie, which is never kept. The session
// before, where old names one, ends: nobody who knew it has part in the new one.
func (t *Tokens) OpenSession(ctx context.Context, id *Identity, old string, audit store.AuditEntry) (string,
	store.Token, error) {
	text, err := newText(SessionPrefix)
	if err != nil {
		return "", store.Token{}, err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	s := store.Token{
		ID: uuid.NewString(), Name: id.Name, Hash: HashOf(text), Role: id.Role.String(), Kinds: Plurals(id.Scope.Kinds),
		Labels: id.Scope.Labels, User: id.User, CreatedBy: id.Name, CreatedAt: now, ExpiresAt: now.Add(SessionTTL),
		SessionOf: string(id.Method),
	}
	if !id.Expires.IsZero() && id.Expires.Before(s.ExpiresAt) {
		s.ExpiresAt = id.Expires.UTC().Truncate(time.Microsecond)
	}
	switch id.Method {
	case Administrator:
		s.SessionOf = t.administratorSessions()
	case ByToken:
		s.SessionOf = id.TokenID
	}
	if old != "" {
		if err := t.store.RevokeToken(ctx, old, now); err != nil && !errors.Is(err, store.ErrNoToken) {
			return "", s, err
		}
	}
	return text, s, t.Create(ctx, s, audit)
}

// Session returns who has opened the session of a cookie, which is ErrNobody's where there is none.
func (t *Tokens) Session(ctx context.Context, cookie string) (*Identity, error) {
	if !hasForm(cookie, SessionPrefix) {
		return nil, ErrNobody
	}
	set, err := t.set(ctx)
	if err != nil {
		return nil, err
	}
	hash := HashOf(cookie)
	e := set.byHash[hash]
	if e == nil || e.token.SessionOf == "" || subtle.ConstantTimeCompare(e.token.Hash[:], hash[:]) != 1 ||
		!e.token.Valid(time.Now()) {
		return nil, ErrNobody
	}
	if e.token.Name == administratorIdentity.Name && e.token.SessionOf != t.administratorSessions() {
		return nil, ErrNobody
	}
	return e.identity, nil
}

// CSRF returns what a page has to send along with the cookie of a session, which only a page of the same origin is
// given: it tells nothing of the cookie.
func CSRF(cookie string) string {
	mac := hmac.New(sha256.New, []byte(cookie))
	mac.Write([]byte("csrf"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
