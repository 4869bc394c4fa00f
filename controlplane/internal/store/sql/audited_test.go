package sql

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"gateway.internal/controlplane/internal/store"
)

// TestNothingWithoutItsEntry: what can't be audited is not done, since both are one transaction.
func TestNothingWithoutItsEntry(t *testing.T) {
	s := opener("embedded:" + filepath.Join(t.TempDir(), "gateway.db"))(t).(*Store)
	defer s.Close()
	ctx, hash := t.Context(), [32]byte{1}
	if _, err := s.CreateJoinToken(ctx, store.JoinToken{ID: "kept", Hash: hash, Uses: 1}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RevokeNode(ctx, "gone", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.ExecContext(ctx, "DROP TABLE audit_resources"); err != nil {
		t.Fatal(err)
	}
	entry := store.AuditEntry{Outcome: store.AuditDone, Resources: []store.AuditResource{{Kind: "node", Name: "n1"}}}
	for what, do := range map[string]func(context.Context) error{
		"create a join token": func(ctx context.Context) error {
			_, err := s.CreateJoinToken(ctx, store.JoinToken{ID: "new"}, time.Hour, entry)
			return err
		},
		"use it": func(ctx context.Context) error {
			_, err := s.Admit(ctx, store.Admission{NodeID: "n1", TokenID: "kept", Hash: hash}, entry)
			return err
		},
		"delete it": func(ctx context.Context) error { _, err := s.DeleteJoinToken(ctx, "kept", entry); return err },
		"revoke":    func(ctx context.Context) error { _, err := s.RevokeNode(ctx, "n1", "", entry); return err },
		"readmit":   func(ctx context.Context) error { _, err := s.ReadmitNode(ctx, "gone", entry); return err },
	} {
		if err := do(ctx); err == nil {
			t.Errorf("%s: done without its entry", what)
		}
	}
	list, err := s.JoinTokens(ctx)
	if err != nil || len(list) != 1 || list[0].ID != "kept" || list[0].Used != 0 {
		t.Errorf("join tokens: %v, %v", list, err)
	}
	revoked, err := s.Revocations(ctx)
	if err != nil || len(revoked) != 1 || !revoked[0].Revoked {
		t.Errorf("revoked nodes: %v, %v", revoked, err)
	}
}
