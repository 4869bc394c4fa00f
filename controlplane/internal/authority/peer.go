package authority

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/identity"
)

// Peer is a node that is let in.
type Peer struct {
	identity.Name
	// Certified tells that it has shown a certificate; otherwise it is in plain text, has shown the static token, and is
	// whoever it says it is.
	Certified bool
	// Generation is that of its certificate; 0: it is of an outside authority.
	Generation int64

	shown    *x509.Certificate
	extended *atomic.Int64
	roots    *x509.CertPool // that its certificate was verified by
}

// Until returns when its certificate expires, or the last one that it was given over its connection.
func (p Peer) Until() time.Time {
	end := p.shown.NotAfter
	if more := time.Unix(p.extended.Load(), 0); more.After(end) {
		return more
	}
	return end
}

// Extend says that it was given a certificate that expires then.
func (p Peer) Extend(end time.Time) { p.extended.Store(end.Unix()) }

// Refusal is why a node is not let in.
type Refusal struct {
	// Reason is one of few, for metrics.
	Reason string
	// Message is for whoever runs the node.
	Message string
	// Node is who it is, where that is known.
	Node string
	// Final tells that no join token changes it.
	Final bool
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

// The reasons of refusals.
const (
	ReasonToken       = "join_token"
	ReasonCertificate = "certificate"
	ReasonExpired     = "expired"
	ReasonRevoked     = "revoked"
	ReasonIdentity    = "identity"
	ReasonPlaintext   = "plaintext"
)

// Reasons are all of them.
func Reasons() []string {
	return []string{ReasonToken, ReasonCertificate, ReasonExpired, ReasonRevoked, ReasonIdentity, ReasonPlaintext}
}

// Authenticate returns who calls, or a *Refusal.
func (a *Authority) Authenticate(ctx context.Context) (Peer, error) {
	info, ok := peer.FromContext(ctx)
	if !ok {
		return Peer{}, &Refusal{Reason: ReasonPlaintext, Message: "there is no connection"}
	}
	over, ok := info.AuthInfo.(secured)
	if !ok {
		return Peer{}, a.plain(ctx)
	}
	shown := over.State.PeerCertificates
	roots, outside, err := a.roots(ctx)
	if err != nil {
		return Peer{}, err
	}
	p := Peer{Certified: true, extended: over.extended, roots: roots}
	at := time.Now()
	if len(shown) > 0 {
		if p.shown = shown[0]; at.After(p.shown.NotAfter) && at.Before(p.Until()) {
			at = p.shown.NotAfter // it has another one by now, which was given to it over this connection
		}
	}
	p.Name, err = identity.VerifyNode(shown, roots, at)
	switch {
	case errors.Is(err, identity.ErrNoCertificate):
		return Peer{}, &Refusal{Reason: ReasonCertificate, Message: "the node has shown no certificate: it has to be " +
			"enrolled, by a " +
			"join token (GATEWAY_JOIN_TOKEN), or to have one of the control plane's outside authority (--tls-cert)"}
	case errors.Is(err, identity.ErrExpired):
		return Peer{}, &Refusal{Reason: ReasonExpired, Message: err.Error() + ": it has to be enrolled again, by a join " +
			"token"}
	case err != nil:
		return Peer{}, &Refusal{Reason: ReasonCertificate, Message: err.Error()}
	}
	if !outside {
		p.Grouped = true
		if p.Generation, err = strconv.ParseInt(shown[0].Subject.SerialNumber, 10, 64); err != nil || p.Generation < 1 {
			return Peer{}, &Refusal{Reason: ReasonCertificate, Message: "the certificate has no generation", Node: p.ID}
		}
	}
	return p, a.Check(p)
}

// Again returns who called in a context as Authenticate does, where certificates are verified by other authorities than
// those that the caller's was: who is let in now may be another one, or nobody.
func (a *Authority) Again(ctx context.Context, p Peer) (Peer, error) {
	if !p.Certified {
		return p, nil
	}
	if roots, _, err := a.roots(ctx); err != nil || roots == p.roots {
		return p, nil //nolint:nilerr // what is not known changes nothing
	}
	return a.Authenticate(ctx)
}

// plain returns why a call in plain text is refused, nil if it is not.
func (a *Authority) plain(ctx context.Context) error {
	if !a.set.Plaintext {
		return &Refusal{Reason: ReasonPlaintext, Message: "the stream is served over TLS only"}
	}
	md, _ := metadata.FromIncomingContext(ctx)
	want := sha256.Sum256([]byte(a.set.StaticToken))
	for _, v := range md.Get("authorization") {
		scheme, token, _ := strings.Cut(v, " ") // a scheme is case-insensitive (RFC 9110 section 11.1)
		sum := sha256.Sum256([]byte(token))
		if strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(sum[:], want[:]) == 1 &&
			a.set.StaticToken != "" {
			return nil
		}
	}
	return &Refusal{Reason: ReasonToken, Message: "the join token is missing or wrong: GATEWAY_JOIN_TOKEN has to be " +
		"the control plane's"}
}

// Check returns why a node that was let in is not any more, as far as is known, or nil.
func (a *Authority) Check(p Peer) error { return a.CheckID(p.ID, p.Generation) }

// CheckID is Check by id and generation; 0: any.
func (a *Authority) CheckID(id string, generation int64) error {
	a.mu.Lock()
	r, known := a.refused[id]
	a.mu.Unlock()
	switch {
	case !known:
		return nil
	case r.Revoked:
		return &Refusal{Reason: ReasonRevoked, Node: id, Final: true, Message: fmt.Sprintf("node %q is revoked", id)}
	case generation != 0 && generation < r.Generation:
		return &Refusal{Reason: ReasonRevoked, Node: id, Message: fmt.Sprintf("the certificate of node %q is revoked: "+
			"the node has to be enrolled again, by a join token", id)}
	}
	return nil
}

// Changed returns a channel that is closed when other nodes are refused than now. Get it, then check, then wait.
func (a *Authority) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// Refused returns which nodes are refused now, by id, as far as is known.
func (a *Authority) Refused() map[string]store.Revocation {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refused
}

// refuse takes over what the store has. What it has not any more, because a backup was restored, stays in force here.
func (a *Authority) refuse(list []store.Revocation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := make(map[string]store.Revocation, len(list))
	for _, r := range list {
		next[r.NodeID] = r
	}
	for id, r := range a.refused {
		if now, known := next[id]; !known || now.Generation < r.Generation {
			if next[id] = r; !a.lost[id] {
				a.lost[id] = true
				a.log.Warn("the store has lost that a node was revoked; revoke it again before this process ends", "node", id)
			}
		}
	}
	if maps.Equal(next, a.refused) {
		return
	}
	a.refused = next
	close(a.changed)
	a.changed = make(chan struct{})
}
