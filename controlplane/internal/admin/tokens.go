package admin

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"google.golang.org/protobuf/reflect/protoreflect"

	"gateway.internal/controlplane/internal/access"
	"gateway.internal/controlplane/internal/store"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// The least, the usual and the longest time for which a token is valid.
const (
	leastTTL = time.Minute
	usualTTL = 90 * 24 * time.Hour
	mostTTL  = 366 * 24 * time.Hour
)

// maxScopeLabels is how many labels a token may be confined to, maxLabel how many bytes each key and value may have.
const (
	maxScopeLabels = 16
	maxLabel       = 256
)

// tokenName is what a token, or a person, may be called: one word that means the same to everybody who sees it.
var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,99}$`)

// reservedNames are the authors of what the control plane does itself, and of the administrator's own token.
var reservedNames = []string{"admin", "acme"}

// accessService serves who may use the API.
type accessService struct {
	adminv1.UnimplementedAccessServiceServer
	*Server
}

// meta is that of a reply about what is no configuration.
func (s *Server) meta() *adminv1.ReplyMeta {
	m := &adminv1.ReplyMeta{}
	if v := s.catalog.Current(); v != nil {
		m.Revision = v.Revision
	}
	return m
}

// WhoAmI returns who makes the call.
func (s accessService) WhoAmI(ctx context.Context, _ *adminv1.WhoAmIRequest) (*adminv1.WhoAmIResponse, error) {
	id := access.Of(ctx)
	if id == nil {
		return nil, failure(fault.Unauthenticated, "nobody is known to make this call")
	}
	return &adminv1.WhoAmIResponse{Identity: &adminv1.Identity{
		Name: id.Name, Method: string(id.Method), Role: id.Role.String(), Kinds: access.Plurals(id.Scope.Kinds),
		Labels: id.Scope.Labels, User: id.User, TokenId: id.TokenID, ExpiresAt: timestamp(id.Expires),
	}, Meta: s.meta()}, nil
}

func tokenOf(t store.Token) *adminv1.Token {
	return &adminv1.Token{
		Id: t.ID, Name: t.Name, Role: t.Role, Kinds: t.Kinds, Labels: t.Labels, User: t.User, CreatedBy: t.CreatedBy,
		CreatedAt: timestamp(t.CreatedAt), ExpiresAt: timestamp(t.ExpiresAt), LastUsedAt: timestamp(t.LastUsedAt),
		RevokedAt: timestamp(t.RevokedAt),
	}
}

// tokenKind is what the audit trail calls tokens.
const tokenKind = "token"

// tokenEntry is the audit trail's entry of a token that is made or revoked.
func tokenEntry(ctx context.Context, action adminv1.Change_Action, before, after *adminv1.Token) store.AuditEntry {
	noteOf(ctx).done = true
	t := after
	var a, b protoreflect.Message
	if before != nil {
		t, a = before, before.ProtoReflect()
	}
	if after != nil {
		b = after.ProtoReflect()
	}
	var d differences
	d.message("", a, b)
	e := doneEntry(ctx)
	e.ChangeCount, e.Resources = 1, []store.AuditResource{{Kind: tokenKind, Name: t.GetName()}}
	e.Changes = changesJSON([]*adminv1.Change{{
		Action: action, Kind: tokenKind, Id: t.GetId(), Name: t.GetName(), Fields: d,
	}})
	return e
}

// ListTokens returns a page of the tokens.
func (s accessService) ListTokens(
	ctx context.Context, r *adminv1.ListTokensRequest,
) (*adminv1.ListTokensResponse, error) {
	list, err := s.tokens.List(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	list = slices.DeleteFunc(list, func(t store.Token) bool {
		return (t.SessionOf != "") != r.GetSessions() || !r.GetAll() && !t.Valid(now) ||
			r.GetUser() != "" && t.User != r.GetUser()
	})
	part, meta, err := cut(list, r, s.meta().GetRevision())
	if err != nil {
		return nil, err
	}
	out := &adminv1.ListTokensResponse{Meta: meta}
	for _, t := range part {
		out.Tokens = append(out.Tokens, tokenOf(t))
	}
	return out, nil
}

// find returns a token by its id, or by the name of one that is valid.
func (s accessService) find(ctx context.Context, idOrName string) (store.Token, error) {
	list, err := s.tokens.List(ctx)
	if err != nil {
		return store.Token{}, err
	}
	now := time.Now()
	for _, t := range list {
		if t.ID == idOrName || t.SessionOf == "" && t.Name == idOrName && t.Valid(now) {
			return t, nil
		}
	}
	if access.IsToken(idOrName) { // which an error must not say
		return store.Token{}, failure(fault.NotFound, "this is the text of a token: say its id or its name")
	}
	return store.Token{}, failure(fault.NotFound, fmt.Sprintf(
		"there is no token with the id %q, and no valid one with that name", idOrName))
}

// GetToken returns one.
func (s accessService) GetToken(ctx context.Context, r *adminv1.GetTokenRequest) (*adminv1.GetTokenResponse, error) {
	t, err := s.find(ctx, r.GetId())
	if err != nil {
		return nil, err
	}
	return &adminv1.GetTokenResponse{Token: tokenOf(t), Meta: s.meta()}, nil
}

// CreateToken makes one.
func (s accessService) CreateToken(
	ctx context.Context, r *adminv1.CreateTokenRequest,
) (*adminv1.CreateTokenResponse, error) {
	if r.GetToken() == nil {
		return nil, invalid("body", "", "is required")
	}
	t, err := draftToken(r, time.Now().UTC().Truncate(time.Microsecond))
	if err != nil {
		return nil, err
	}
	text, err := access.NewToken()
	if err != nil {
		return nil, err
	}
	t.ID, t.Hash, t.CreatedBy = uuid.NewString(), access.HashOf(text), author(ctx)
	if err := s.tokens.Create(ctx, t, tokenEntry(ctx, adminv1.Change_ACTION_CREATED, nil, tokenOf(t))); err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "a token was made", "author", t.CreatedBy, "name", t.Name, "id", t.ID, "role", t.Role,
		"expires_at", t.ExpiresAt)
	out := tokenOf(t)
	out.Token = text
	return &adminv1.CreateTokenResponse{Token: out, Meta: s.meta()}, nil
}

// draftToken returns the token that a request asks for, without what makes it this one.
func draftToken(r *adminv1.CreateTokenRequest, now time.Time) (store.Token, error) {
	in := r.GetToken()
	t := store.Token{Name: in.GetName(), Role: in.GetRole(), User: in.GetUser(), Labels: in.GetLabels(), CreatedAt: now}
	for field, given := range map[string]bool{
		"id": in.GetId() != "", "created_at": in.CreatedAt != nil, "created_by": in.GetCreatedBy() != "",
		"last_used_at": in.LastUsedAt != nil, "revoked_at": in.RevokedAt != nil, "token": in.GetToken() != "",
	} {
		if given {
			return t, invalid(field, "", "is given by the control plane: leave it out")
		}
	}
	const form = `has to be 1 to 100 letters, digits and "._@:/+-", and to begin with a letter or digit`
	switch {
	case !tokenName.MatchString(t.Name):
		return t, invalid("name", "", form)
	case slices.Contains(reservedNames, strings.ToLower(t.Name)), access.IsToken(t.Name):
		return t, invalid("name", "", "is taken by the control plane itself")
	case t.User != "" && !tokenName.MatchString(t.User):
		return t, invalid("user", "", form)
	}
	role, err := access.ParseRole(t.Role)
	if err != nil {
		return t, invalid("role", short(t.Role), err.Error())
	}
	for i, name := range in.GetKinds() {
		k, err := config.ParseKind(name)
		if err != nil {
			return t, invalid(fmt.Sprintf("kinds[%d]", i), short(name), err.Error())
		}
		if !slices.Contains(t.Kinds, k.Plural()) {
			t.Kinds = append(t.Kinds, k.Plural())
		}
	}
	if role == access.Admin && len(t.Kinds)+len(t.Labels) > 0 {
		return t, invalid("role", t.Role, "can't be confined to kinds or labels: who may make tokens may do everything")
	}
	if len(t.Labels) > maxScopeLabels {
		return t, invalid("labels", "", fmt.Sprintf("has %d entries; %d are allowed", len(t.Labels), maxScopeLabels))
	}
	for _, name := range slices.Sorted(maps.Keys(t.Labels)) {
		if name == "" || len(name) > maxLabel || len(t.Labels[name]) > maxLabel {
			return t, invalid("labels", short(name),
				fmt.Sprintf("has to have keys of 1 to %d bytes, and values of up to that", maxLabel))
		}
	}
	t.ExpiresAt, err = endOf(r, now)
	return t, err
}

// endOf returns when a token is to end.
func endOf(r *adminv1.CreateTokenRequest, now time.Time) (time.Time, error) {
	given := r.GetToken().ExpiresAt
	if text := r.GetTtl(); text != "" {
		d, err := config.ParseDuration(text)
		switch {
		case err != nil:
			return now, invalid("ttl", short(text), err.Error())
		case given != nil:
			return now, invalid("ttl", text, "can't be together with expires_at")
		case d < leastTTL || d > mostTTL:
			return now, invalid("ttl", text, "has to be from 1m to 8784h")
		}
		return now.Add(d), nil
	}
	if given == nil {
		return now.Add(usualTTL), nil
	}
	end := given.AsTime().Truncate(time.Microsecond)
	if d := end.Sub(now); given.CheckValid() != nil || d < 0 || d > mostTTL {
		return now, invalid("expires_at", end.Format(time.RFC3339), "has to be in the next 8784h")
	}
	return end, nil
}

// RevokeToken ends one.
func (s accessService) RevokeToken(
	ctx context.Context, r *adminv1.RevokeTokenRequest,
) (*adminv1.RevokeTokenResponse, error) {
	t, err := s.find(ctx, r.GetId())
	if err != nil {
		return nil, err
	}
	if err := s.tokens.Revoke(ctx, t.ID, tokenEntry(ctx, adminv1.Change_ACTION_DELETED, tokenOf(t), nil)); err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "a token was revoked", "author", author(ctx), "name", t.Name, "id", t.ID)
	if t, err = s.find(ctx, t.ID); err != nil {
		return nil, err
	}
	return &adminv1.RevokeTokenResponse{Token: tokenOf(t), Meta: s.meta()}, nil
}
