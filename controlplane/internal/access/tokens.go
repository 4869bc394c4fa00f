package access

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/config"
)

const (
	// usedInterval is how often it is written when tokens were used.
	usedInterval = time.Minute
	// usedAtEnd is how long the last such write may take, when the process ends.
	usedAtEnd = 2 * time.Second
)

// ErrNobody says that a text lets nobody in.
var ErrNobody = errors.New("the token is missing or wrong")

// Tokens are the tokens that let somebody in: the administrator's own, and those of the store. It is safe for
// concurrent use. What changes in the store is known at once in the process that changed it, and in others as soon as
// the store hints at it: within some hundredths of a second where it notifies, within six seconds otherwise. While the
// store is away, the tokens that are known stay.
type Tokens struct {
	store         store.Store
	administrator Hash
	log           *slog.Logger
	provider      *OIDC // nil: none

	known atomic.Pointer[tokenSet] // nil: never read
	// reading is held by who reads the store: of two readers the later one may not have the older answer.
	reading chan struct{}
	// lost are, by id, the tokens of which the store has lost that they were revoked; held by who reads.
	lost map[string]bool

	mu   sync.Mutex
	used map[string]time.Time // by id, not yet written
}

// tokenSet is what the store had. It is immutable.
type tokenSet struct {
	changes int64
	list    []store.Token
	byHash  map[Hash]*entry
	byID    map[string]*entry
}

type entry struct {
	token    store.Token
	identity *Identity
}

// NewTokens returns the tokens of a store, and the administrator's.
func NewTokens(s store.Store, administrator string, log *slog.Logger) *Tokens {
	return &Tokens{store: s, administrator: HashOf(administrator), log: log, reading: make(chan struct{}, 1),
		lost: map[string]bool{}, used: map[string]time.Time{}}
}

// Trust lets in who has a token of an identity provider too. It is called before all else, if at all.
func (t *Tokens) Trust(o *OIDC) { t.provider = o }

// Run follows the store, and tells it which tokens were used, until ctx ends.
func (t *Tokens) Run(ctx context.Context) error {
	hints := t.store.Watch(ctx)
	tick := time.NewTicker(usedInterval)
	defer tick.Stop()
	for {
		if err := t.Refresh(ctx); err != nil && ctx.Err() == nil && t.store.Err() == nil { // the store says when it is away
			t.log.Error("the tokens of the admin API can't be read; those that are known stay", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), usedAtEnd)
			defer cancel()
			t.writeUsed(late)
			return nil
		case <-tick.C:
			t.writeUsed(ctx)
		case <-hints:
		}
	}
}

// writeUsed writes when tokens were used. What can't be written waits.
func (t *Tokens) writeUsed(ctx context.Context) {
	t.mu.Lock()
	used := t.used
	t.used = map[string]time.Time{}
	t.mu.Unlock()
	if len(used) == 0 || t.store.UseTokens(ctx, used) == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.Copy(used, t.used)
	t.used = used
}

// Refresh reads what has changed in the store: what it had when this was called is known when it returns.
func (t *Tokens) Refresh(ctx context.Context) error {
	select {
	case t.reading <- struct{}{}:
		defer func() { <-t.reading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	before := t.known.Load()
	known := int64(-1)
	if before != nil {
		known = before.changes
	}
	list, changes, err := t.store.Tokens(ctx, known)
	if err != nil || changes == known {
		return err
	}
	if before != nil {
		t.keepRevoked(ctx, before.list, list)
	}
	set := &tokenSet{changes: changes, list: list, byHash: make(map[Hash]*entry, len(list)),
		byID: make(map[string]*entry, len(list))}
	for _, token := range list {
		id, err := identityOf(token)
		if err != nil { // of a later build: it lets nobody in
			t.log.WarnContext(ctx, "a token of the admin API can't be understood, and lets nobody in", "id", token.ID,
				"name", token.Name, "error", err.Error())
			continue
		}
		e := &entry{token, id}
		set.byHash[token.Hash], set.byID[token.ID] = e, e
	}
	t.known.Store(set)
	return nil
}

// keepRevoked keeps tokens revoked that the store has as valid again, because a backup was restored.
func (t *Tokens) keepRevoked(ctx context.Context, before, now []store.Token) {
	revoked := map[string]time.Time{}
	for _, b := range before {
		if !b.RevokedAt.IsZero() {
			revoked[b.ID] = b.RevokedAt
		}
	}
	for i := range now {
		at, was := revoked[now[i].ID]
		if !was || !now[i].RevokedAt.IsZero() {
			continue
		}
		now[i].RevokedAt = at
		if !t.lost[now[i].ID] {
			t.lost[now[i].ID] = true
			t.log.WarnContext(ctx, "the store has lost that a token of the admin API was revoked; revoke it again before "+
				"this process ends", "id", now[i].ID, "name", now[i].Name)
		}
	}
}

func identityOf(t store.Token) (*Identity, error) {
	role, err := ParseRole(t.Role)
	if err != nil {
		return nil, err
	}
	method := ByToken
	if t.SessionOf != "" {
		method = BySession
	}
	id := &Identity{Name: t.Name, Method: method, Role: role, User: t.User, TokenID: t.ID, Expires: t.ExpiresAt,
		Scope: Scope{Labels: t.Labels}}
	for _, name := range t.Kinds {
		k, err := config.ParseKind(name)
		if err != nil {
			return nil, err
		}
		id.Scope.Kinds = append(id.Scope.Kinds, k)
	}
	return id, nil
}

// administratorIdentity is who has the administrator's own token.
var administratorIdentity = &Identity{Name: "admin", Method: Administrator, Role: Admin}

// Lookup returns whom a token lets in. It is ErrNobody when that is nobody, and ErrProviderAway or an error of the
// store's when it is not known yet.
func (t *Tokens) Lookup(ctx context.Context, text string) (*Identity, error) {
	hash := HashOf(text)
	if subtle.ConstantTimeCompare(hash[:], t.administrator[:]) == 1 {
		return administratorIdentity, nil
	}
	if t.provider != nil && isJWT(text) {
		return t.provider.lookup(ctx, text)
	}
	if !IsToken(text) {
		return nil, ErrNobody
	}
	set, err := t.set(ctx)
	if err != nil {
		return nil, err
	}
	// That a hash is looked up in a table tells nothing of the texts that have others.
	e := set.byHash[hash]
	if now := time.Now(); e != nil && e.token.SessionOf == "" && subtle.ConstantTimeCompare(e.token.Hash[:],
		hash[:]) == 1 && e.token.Valid(now) {
		t.mu.Lock()
		t.used[e.token.ID] = now
		t.mu.Unlock()
		return e.identity, nil
	}
	return nil, ErrNobody
}

// Holds reports whether what an identity was shown by still lets in: it has neither been revoked, as far as is known,
// nor has it expired. For calls that go on for long.
func (t *Tokens) Holds(id *Identity) bool {
	now := time.Now()
	if !id.Expires.IsZero() && !now.Before(id.Expires) {
		return false
	}
	if id.TokenID == "" {
		return true
	}
	set := t.known.Load()
	if set == nil {
		return true // it was found there, so this can't be
	}
	e := set.byID[id.TokenID]
	return e != nil && e.token.Valid(now)
}

// set returns what is known of the store, and reads it where nothing is.
func (t *Tokens) set(ctx context.Context) (*tokenSet, error) {
	if set := t.known.Load(); set != nil {
		return set, nil
	}
	if err := t.Refresh(ctx); err != nil {
		return nil, err
	}
	return t.known.Load(), nil
}

// List returns all tokens as the store has them now, by name.
func (t *Tokens) List(ctx context.Context) ([]store.Token, error) {
	if err := t.Refresh(ctx); err != nil {
		return nil, err
	}
	list := append([]store.Token(nil), t.known.Load().list...)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list { // what is not written yet, here
		if at := t.used[list[i].ID]; at.After(list[i].LastUsedAt) {
			list[i].LastUsedAt = at
		}
	}
	return list, nil
}

// Create keeps a token, which lets in from now on.
func (t *Tokens) Create(ctx context.Context, token store.Token, audit ...store.AuditEntry) error {
	if err := t.store.CreateToken(ctx, token, audit...); err != nil {
		return err
	}
	return t.Refresh(ctx)
}

// Revoke ends a token, which lets nobody in from now on.
func (t *Tokens) Revoke(ctx context.Context, id string, audit ...store.AuditEntry) error {
	if err := t.store.RevokeToken(ctx, id, time.Now(), audit...); err != nil {
		return err
	}
	return t.Refresh(ctx)
}
