package store

import (
	"context"
	"fmt"
	"time"
)

// JoinToken lets nodes in. Of its secret only a hash is kept.
type JoinToken struct {
	// ID names it.
	ID string
	// Hash is that of the secret; absent in lists.
	Hash [32]byte
	// Group is that of the nodes that it lets in; empty: they say it themselves.
	Group string
	// NodeID is the only node that it lets in; empty: any one.
	NodeID string
	// Uses is how often it may be used altogether; 0: any number of times. Used is how often it has been.
	Uses, Used int
	// CreatedAt and ExpiresAt are times of the engine's clock.
	CreatedAt, ExpiresAt time.Time
}

// JoinTokenError is a join token that does not let a node in. It has nothing of the secret.
type JoinTokenError struct {
	// Reason says why, as a clause about the token.
	Reason string
}

// Error implements error.
func (e *JoinTokenError) Error() string { return "the join token " + e.Reason }

// RevokedError is a node that is revoked.
type RevokedError struct{ NodeID string }

// Error implements error.
func (e *RevokedError) Error() string {
	return fmt.Sprintf("node %q is revoked; gatewayctl nodes readmit lets it be enrolled again", e.NodeID)
}

// Admission is a node that shows a join token.
type Admission struct {
	// NodeID and Group are what it asks for.
	NodeID, Group string
	// TokenID and Hash are those of the token; empty: one that the store does not know of, which was looked at already.
	TokenID string
	Hash    [32]byte
	// Key is a hash of the node's key. Who shows the same token again for the same node and key, because the answer was
	// lost, uses it once.
	Key [32]byte
}

// Admitted is what a node that is let in gets a certificate for.
type Admitted struct {
	// Group is the token's group, or else what the node asked for.
	Group string
	// Generation is that of the certificates which are given to the node's id now, from 1.
	Generation int64
}

// Revocation says which certificates of a node are refused.
type Revocation struct {
	// NodeID is the node.
	NodeID string
	// Revoked tells that all are. Otherwise the node was readmitted.
	Revoked bool
	// Generation is the first one that may be good; certificates of earlier ones are refused for good.
	Generation int64
	// Reason is why, as who revoked it said.
	Reason string
	// At is when, by the engine's clock.
	At time.Time
}

// Gatekeeper keeps who is let in to the fleet. All of it holds for all control planes of a store. Entries of the audit
// trail are written in the same transaction as what they are about, and only where that was done.
type Gatekeeper interface {
	// CreateJoinToken keeps a token for ttl, and returns it with its times. Those that have expired are forgotten.
	CreateJoinToken(ctx context.Context, t JoinToken, ttl time.Duration, audit ...AuditEntry) (JoinToken, error)
	// JoinTokens returns the tokens that may still be used, the newest first.
	JoinTokens(ctx context.Context) ([]JoinToken, error)
	// DeleteJoinToken forgets a token, and reports whether there was one.
	DeleteJoinToken(ctx context.Context, id string, audit ...AuditEntry) (bool, error)
	// Admit uses a token for a node, in one step. It is *JoinTokenError where the token does not let that node in, and
	// *RevokedError where the node is revoked; then the token is not used.
	Admit(ctx context.Context, a Admission, audit ...AuditEntry) (Admitted, error)
	// RevokeNode has all certificates of a node refused that it has been given, and hints to all watches.
	RevokeNode(ctx context.Context, id, reason string, audit ...AuditEntry) (Revocation, error)
	// ReadmitNode lets a revoked node be admitted again, hints to all watches, and reports whether it was revoked.
	ReadmitNode(ctx context.Context, id string, audit ...AuditEntry) (bool, error)
	// Revocations returns all there are, by node id, those of readmitted nodes too.
	Revocations(ctx context.Context) ([]Revocation, error)
}
