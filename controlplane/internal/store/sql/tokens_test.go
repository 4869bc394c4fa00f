package sql

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"gateway.internal/controlplane/internal/store"
)

// TestTokensAreBounded: tokens that let nobody in make room, and those that do are no more than there may be.
func TestTokensAreBounded(t *testing.T) {
	s := opener("embedded:" + filepath.Join(t.TempDir(), "gateway.db"))(t).(*Store)
	defer s.Close()
	s.maxTokens = 3
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	create := func(i int, ends time.Duration) error {
		one := store.Token{ID: fmt.Sprint(i), Name: fmt.Sprint("n", i), CreatedAt: now.Add(time.Duration(i) * time.Second)}
		one.ExpiresAt = one.CreatedAt.Add(ends)
		copy(one.Hash[:], one.ID)
		return s.CreateToken(t.Context(), one)
	}
	for i, ends := range []time.Duration{time.Hour, time.Microsecond, time.Hour, time.Hour} { // the second one makes room
		if err := create(i, ends); err != nil {
			t.Fatalf("token %d: %v", i, err)
		}
	}
	if err := create(4, time.Hour); !errors.Is(err, store.ErrTooManyTokens) {
		t.Errorf("one more: %v", err)
	}
	if list, _, err := s.Tokens(t.Context(), -1); err != nil || len(list) != 3 || list[0].ID != "0" || list[1].ID != "2" {
		t.Errorf("there are %v, %v", list, err)
	}
}

// TestAuditIsBounded: of changes and refusals the newest are kept, each by themselves.
func TestAuditIsBounded(t *testing.T) {
	s := opener("embedded:" + filepath.Join(t.TempDir(), "gateway.db"))(t).(*Store)
	defer s.Close()
	s.maxAudit, s.maxAuditRefusals = 3, 2
	keep := func(outcome string) {
		t.Helper()
		e := store.AuditEntry{Outcome: outcome, Resources: []store.AuditResource{{Kind: "route", Name: "a"}}}
		if err := s.KeepAudit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		keep(store.AuditDone)
	}
	for range 10 {
		keep(store.AuditRefused)
	}
	for outcome, want := range map[string]int{store.AuditDone: 3, store.AuditRefused: 2} {
		if list, n, err := s.Audit(t.Context(), store.AuditList{Outcome: outcome, Limit: 10}); err != nil || n != want ||
			len(list) != want {
			t.Errorf("of %s %d are kept, %v", outcome, n, err)
		}
	}
	var n int
	if err := s.db.QueryRowContext(t.Context(), "SELECT count(*) FROM audit_resources").Scan(&n); err != nil || n != 5 {
		t.Errorf("%d resources are kept, %v", n, err)
	}
}
