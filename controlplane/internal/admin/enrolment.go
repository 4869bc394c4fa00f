package admin

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gateway.internal/controlplane/internal/store"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/identity"
	"gateway.internal/shared/nodeid"
)

// The least, the usual and the longest time for which a join token is valid, how often it may be used, and the longest
// reason of a revocation.
const (
	leastJoinTTL   = time.Minute
	usualJoinTTL   = time.Hour
	mostJoinTTL    = 8760 * time.Hour
	mostJoinUses   = 100_000
	maxReasonRunes = 200
)

// What the audit trail calls nodes and join tokens.
const (
	nodeKind      = "node"
	joinTokenKind = "join_token"
)

// Pin returns the pin of the authority that join tokens are for.
type Pin func(context.Context) ([32]byte, error)

// EnrolBy says which authority join tokens are for. It is called before the API is served.
func (s *Server) EnrolBy(pin Pin) { s.pin = pin }

// enrolments serves who is let in to the fleet.
type enrolments struct {
	adminv1.UnimplementedEnrolmentServiceServer
	*Server
}

func joinTokenOf(t store.JoinToken) *adminv1.JoinToken {
	return &adminv1.JoinToken{Id: t.ID, Group: t.Group, NodeId: t.NodeID, Uses: uint32(t.Uses), Used: uint32(t.Used),
		CreatedAt: timestamp(t.CreatedAt), ExpiresAt: timestamp(t.ExpiresAt)}
}

// CreateJoinToken makes one.
func (s enrolments) CreateJoinToken(
	ctx context.Context, r *adminv1.CreateJoinTokenRequest,
) (*adminv1.CreateJoinTokenResponse, error) {
	in := r.GetJoinToken()
	t := store.JoinToken{Group: in.GetGroup(), NodeID: in.GetNodeId(), Uses: 1}
	if in != nil && in.Uses != nil {
		if in.GetUses() > mostJoinUses {
			return nil, invalid("uses", fmt.Sprint(in.GetUses()), "has to be 1 to 100000, or 0 for any number of times")
		}
		t.Uses = int(in.GetUses())
	}
	ttl := usualJoinTTL
	if text := in.GetTtl(); text != "" {
		var err error
		if ttl, err = config.ParseDuration(text); err != nil || ttl < leastJoinTTL || ttl > mostJoinTTL {
			return nil, invalid("ttl", text, `has to be from 1m to 8760h, such as "1h"`)
		}
	}
	if err := identity.CheckGroup(t.Group); err != nil {
		return nil, invalid("group", t.Group, "has to be 1 to 128 bytes without spaces and control characters")
	}
	if t.NodeID != "" {
		if err := nodeid.Check(t.NodeID); err != nil {
			return nil, invalid("node_id", t.NodeID, "has to be 1 to 128 bytes without spaces and control characters")
		}
	}
	if s.pin == nil {
		return nil, failure(fault.Internal, "this control plane has no authority")
	}
	pin, err := s.pin(ctx)
	if err != nil {
		return nil, err
	}
	made := identity.Token{ID: strings.ToLower(rand.Text())[:12], Pin: pin}
	if _, err := rand.Read(made.Secret[:]); err != nil {
		return nil, err
	}
	t.ID, t.Hash = made.ID, made.Hash()
	if t, err = s.store.CreateJoinToken(ctx, t, ttl, aboutEntry(ctx, joinTokenKind, t.ID)); err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "a join token was made", "author", author(ctx), "id", t.ID, "group", t.Group, "node",
		t.NodeID, "uses", t.Uses, "expires_at", t.ExpiresAt)
	return &adminv1.CreateJoinTokenResponse{JoinToken: joinTokenOf(t), Token: made.String(), Meta: s.meta()}, nil
}

// ListJoinTokens returns a page of those that may still be used.
func (s enrolments) ListJoinTokens(
	ctx context.Context, r *adminv1.ListJoinTokensRequest,
) (*adminv1.ListJoinTokensResponse, error) {
	list, err := s.store.JoinTokens(ctx)
	if err != nil {
		return nil, err
	}
	part, meta, err := cut(list, r, s.meta().GetRevision())
	if err != nil {
		return nil, err
	}
	out := &adminv1.ListJoinTokensResponse{Meta: meta}
	for _, t := range part {
		out.JoinTokens = append(out.JoinTokens, joinTokenOf(t))
	}
	return out, nil
}

// DeleteJoinToken makes one useless.
func (s enrolments) DeleteJoinToken(
	ctx context.Context, r *adminv1.DeleteJoinTokenRequest,
) (*adminv1.DeleteJoinTokenResponse, error) {
	found, err := s.store.DeleteJoinToken(ctx, r.GetId(), aboutEntry(ctx, joinTokenKind, r.GetId()))
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, failure(fault.NotFound, "there is no join token with that id; gatewayctl join-token list shows them")
	}
	s.log.InfoContext(ctx, "a join token was deleted", "author", author(ctx), "id", r.GetId())
	return &adminv1.DeleteJoinTokenResponse{Meta: s.meta()}, nil
}

func revokedOf(r store.Revocation) *adminv1.RevokedNode {
	return &adminv1.RevokedNode{Id: r.NodeID, Reason: r.Reason, RevokedAt: timestamp(r.At)}
}

// RevokeNode refuses a node from now on.
func (s enrolments) RevokeNode(
	ctx context.Context, r *adminv1.RevokeNodeRequest,
) (*adminv1.RevokeNodeResponse, error) {
	if err := nodeid.Check(r.GetId()); err != nil {
		return nil, invalid("id", r.GetId(), "has to be 1 to 128 bytes without spaces and control characters")
	}
	if n := utf8.RuneCountInString(r.GetReason()); n > maxReasonRunes {
		return nil, invalid("reason", "", fmt.Sprintf("has %d characters; at most %d are kept", n, maxReasonRunes))
	}
	done, err := s.store.RevokeNode(ctx, r.GetId(), r.GetReason(), aboutEntry(ctx, nodeKind, r.GetId()))
	if err != nil {
		return nil, err
	}
	s.log.WarnContext(ctx, "a node was revoked", "author", author(ctx), "node", r.GetId(), "reason", r.GetReason())
	return &adminv1.RevokeNodeResponse{Node: revokedOf(done), Meta: s.meta()}, nil
}

// ReadmitNode lets a node be enrolled again.
func (s enrolments) ReadmitNode(
	ctx context.Context, r *adminv1.ReadmitNodeRequest,
) (*adminv1.ReadmitNodeResponse, error) {
	found, err := s.store.ReadmitNode(ctx, r.GetId(), aboutEntry(ctx, nodeKind, r.GetId()))
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, failure(fault.NotFound, fmt.Sprintf("node %q is not revoked", r.GetId()))
	}
	s.log.InfoContext(ctx, "a node was readmitted", "author", author(ctx), "node", r.GetId())
	return &adminv1.ReadmitNodeResponse{Meta: s.meta()}, nil
}

// ListRevokedNodes returns a page of those that are refused.
func (s enrolments) ListRevokedNodes(
	ctx context.Context, r *adminv1.ListRevokedNodesRequest,
) (*adminv1.ListRevokedNodesResponse, error) {
	list, err := s.store.Revocations(ctx)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(r store.Revocation) bool { return !r.Revoked })
	part, meta, err := cut(list, r, s.meta().GetRevision())
	if err != nil {
		return nil, err
	}
	out := &adminv1.ListRevokedNodesResponse{Meta: meta}
	for _, one := range part {
		out.Nodes = append(out.Nodes, revokedOf(one))
	}
	return out, nil
}
