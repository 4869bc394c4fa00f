package admin

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"gateway.internal/controlplane/internal/store"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/config"
)

// auditService shows the audit trail.
type auditService struct {
	adminv1.UnimplementedAuditServiceServer
	*Server
}

// moment reads a time, or how long ago it was; the zero time for "".
func moment(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := config.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, invalid(field, short(text),
			"has to be a time such as 2026-01-31T12:00:00Z, or how long ago it was, such as 24h")
	}
	return at, nil
}

// ListAudit returns a page of the audit trail.
func (s auditService) ListAudit(ctx context.Context, r *adminv1.ListAuditRequest) (*adminv1.ListAuditResponse, error) {
	_, meta, err := cut([]int{}, r, s.meta().GetRevision())
	if err != nil {
		return nil, err
	}
	l := store.AuditList{
		Actor: r.GetActor(), Address: r.GetAddress(), Call: r.GetCall(), Outcome: r.GetOutcome(), Kind: r.GetKind(),
		Name: r.GetName(), Revision: r.GetRevision(), Through: r.GetThrough(),
		Offset: int(meta.Page-1) * int(meta.PerPage), Limit: int(meta.PerPage),
	}
	if l.Outcome != "" && l.Outcome != store.AuditDone && l.Outcome != store.AuditRefused {
		return nil, invalid("outcome", short(l.Outcome), "has to be done or refused")
	}
	if l.Kind != "" && !slices.Contains([]string{tokenKind, sessionKind, nodeKind, joinTokenKind}, l.Kind) {
		k, err := config.ParseKind(l.Kind)
		if err != nil {
			return nil, invalid("kind", short(l.Kind), err.Error())
		}
		l.Kind = k.String()
	}
	if l.Since, err = moment("since", r.GetSince()); err != nil {
		return nil, err
	}
	if l.Before, err = moment("before", r.GetBefore()); err != nil {
		return nil, err
	}
	list, total, err := s.store.Audit(ctx, l)
	if err != nil {
		return nil, err
	}
	meta.Total = uint32(total)
	out := &adminv1.ListAuditResponse{Meta: meta}
	for _, e := range list {
		entry := &adminv1.AuditEntry{}
		if e.Changes != "" {
			if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(e.Changes), entry); err != nil {
				s.log.WarnContext(ctx, "changes of the audit trail can't be read", "id", e.ID, "error", err.Error())
			}
		}
		entry.Id, entry.At, entry.Actor, entry.Method, entry.User = e.ID, timestamp(e.At), e.Actor, e.Method, e.User
		entry.TokenId, entry.Address, entry.RequestId, entry.Call = e.TokenID, e.Address, e.RequestID, e.Call
		entry.Outcome, entry.Code, entry.Reason, entry.Message = e.Outcome, e.Code, e.Reason, e.Message
		entry.Revision, entry.Count, entry.ChangeCount = e.Revision, uint32(e.Count), uint32(e.ChangeCount)
		out.Entries = append(out.Entries, entry)
	}
	return out, nil
}
