package admin

import (
	"context"
	"time"

	"gateway.internal/controlplane/internal/store"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
)

// PruneHistory removes old revisions.
func (s configurationService) PruneHistory(
	ctx context.Context, r *adminv1.PruneHistoryRequest,
) (*adminv1.PruneHistoryResponse, error) {
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	keep := store.Keep{Newest: int(r.GetNewest())}
	switch age, err := time.ParseDuration(r.GetAge()); {
	case r.GetAge() == "" && r.GetNewest() == 0:
		return nil, invalid("newest", "", "or age has to say what stays")
	case r.GetAge() == "":
	case err != nil || age <= 0:
		return nil, invalid("age", r.GetAge(), `has to be a duration such as "720h"`)
	default:
		keep.Since = time.Now().Add(-age)
	}
	n, err := s.store.Prune(ctx, keep, r.GetDryRun())
	if err != nil {
		return nil, err
	}
	h, err := s.store.History(ctx)
	if err != nil {
		return nil, err
	}
	oldest := h.Oldest
	if r.GetDryRun() {
		oldest += uint32(n)
	} else if n > 0 {
		if err := s.catalog.SeeHistory(ctx); err != nil {
			return nil, err
		}
		s.log.InfoContext(ctx, "the history was pruned", "author", author(ctx), "removed", n, "oldest", oldest)
	}
	meta := &adminv1.ReplyMeta{Revision: v.Revision}
	return &adminv1.PruneHistoryResponse{Removed: uint32(n), Oldest: oldest, Meta: meta}, nil
}

// maxPurgedNames is how many names a reply has of what secrets were purged from; the counts are of all.
const maxPurgedNames = 1000

// PurgeSecrets takes secrets out of the history.
func (s configurationService) PurgeSecrets(
	ctx context.Context, r *adminv1.PurgeSecretsRequest,
) (*adminv1.PurgeSecretsResponse, error) {
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	p, err := s.store.PurgeSecrets(ctx, r.GetDryRun())
	if err != nil {
		return nil, err
	}
	if !r.GetDryRun() {
		if err := s.catalog.SeeHistory(ctx); err != nil {
			return nil, err
		}
		s.log.InfoContext(ctx, "secrets were purged from the history",
			"author", author(ctx), "keys", p.Keys, "values", p.Values, "revisions", p.Revisions)
	}
	return &adminv1.PurgeSecretsResponse{
		Keys: uint32(p.Keys), Values: uint32(p.Values), Revisions: uint32(p.Revisions),
		Certificates: p.Certificates[:min(len(p.Certificates), maxPurgedNames)],
		Fields:       p.Fields[:min(len(p.Fields), maxPurgedNames)],
		Meta:         &adminv1.ReplyMeta{Revision: v.Revision},
	}, nil
}
