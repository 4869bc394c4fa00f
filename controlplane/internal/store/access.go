package store

import (
	"context"
	"errors"
	"time"
)

// MaxTokens is how many tokens are kept; those that have ended, or were revoked, make room for new ones.
const MaxTokens = 10_000

// MaxSessions is how many sessions are kept of those that have one name.
const MaxSessions = 20

// The errors of tokens.
var (
	// ErrTokenExists is a token whose name another one has that is valid.
	ErrTokenExists = errors.New("there is a valid token of that name")
	// ErrNoToken is a token that is not there, or was revoked already.
	ErrNoToken = errors.New("there is no such token, or it was revoked already")
	// ErrTooManyTokens says that there are MaxTokens that are valid.
	ErrTooManyTokens = errors.New("there are as many valid tokens as there may be: revoke some first")
)

// Token is what is kept of a token of the admin API: never its text.
type Token struct {
	// ID is a UUID, Name what its calls are known by.
	ID, Name string
	// Hash is the SHA-256 of its text.
	Hash [32]byte
	// Role is a role's name, Kinds are kinds' names and Labels labels: what it may do, in words of the admin API.
	Role   string
	Kinds  []string
	Labels map[string]string
	// User is the person whom it is for; empty: none.
	User string
	// SessionOf is what the session was opened with, such as the id of another token; empty: it is no session. Sessions
	// have the names of who opened them, and do not take them.
	SessionOf string
	// CreatedBy is who made it.
	CreatedBy string
	// CreatedAt and ExpiresAt are when it begins and ends. LastUsedAt and RevokedAt are zero for never. All are in whole
	// microseconds, UTC.
	CreatedAt, ExpiresAt, LastUsedAt, RevokedAt time.Time
}

// Valid reports whether the token lets in at a time.
func (t *Token) Valid(at time.Time) bool { return t.RevokedAt.IsZero() && at.Before(t.ExpiresAt) }

// Access is the part of the store that says who may use the admin API.
type Access interface {
	// Tokens returns all tokens, by name and time, and the number of changes that led there. Where that is known
	// already, it returns no tokens. When tokens were used is not among what is counted.
	Tokens(ctx context.Context, known int64) (list []Token, changes int64, err error)
	// CreateToken keeps a token. It is ErrTokenExists, or ErrTooManyTokens, when that can't be, as of the token's
	// CreatedAt. Watches of all processes get a hint. The entries of the audit trail are kept together with it.
	CreateToken(ctx context.Context, t Token, audit ...AuditEntry) error
	// RevokeToken sets when a token was revoked, and the sessions that were opened with it. It is ErrNoToken when there is
	// none with the id that was not. Watches of all processes get a hint. The entries of the audit trail are kept together
	// with it.
	RevokeToken(ctx context.Context, id string, at time.Time, audit ...AuditEntry) error
	// UseTokens says when tokens were used last, by their ids. What is later already stays.
	UseTokens(ctx context.Context, used map[string]time.Time) error
}
