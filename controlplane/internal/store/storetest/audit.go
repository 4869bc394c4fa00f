package storetest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/config"
)

// testAudit keeps who did what: by itself, with commits and with tokens.
func testAudit(t *testing.T, e Engine) {
	s := open(t, e)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	entry := func(actor, outcome string, minute int) store.AuditEntry {
		return store.AuditEntry{
			At: at.Add(time.Duration(minute) * time.Minute), Actor: actor, Method: "token", User: "u", TokenID: "t",
			Address: "10.0.0.1", RequestID: "r", Call: "RouteConfigService/CreateRoute", Outcome: outcome, Code: "c",
			Reason: "it's \"so\"; DROP TABLE audit", Message: "why", Count: 3, ChangeCount: 2, Changes: `{"changes":[]}`,
		}
	}
	check := func(what string, l store.AuditList, want ...store.AuditEntry) {
		t.Helper()
		if l.Limit == 0 {
			l.Limit = 100
		}
		got, total, err := s.Audit(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		before := uint64(math.MaxUint64)
		for i := range got {
			if got[i].ID >= before {
				t.Errorf("%s: %d comes after %d", what, got[i].ID, before)
			}
			before, got[i].ID = got[i].ID, 0
		}
		for i := range want {
			want[i].Resources = nil
		}
		if d := cmp.Diff(want, got); d != "" || l.Limit == 100 && l.Offset == 0 && total != len(want) {
			t.Errorf("%s: %d in all (-want +got):\n%s", what, total, d)
		}
	}
	one, two := entry("ann", store.AuditDone, 1), entry("bob", store.AuditRefused, 2)
	three := entry("ann", store.AuditDone, 3)
	one.Resources = []store.AuditResource{{Kind: "route", Name: "a"}, {Kind: "route", Name: "b"}}
	three.Resources, three.Call = []store.AuditResource{{Kind: "service", Name: "a"}}, "x"
	if err := s.KeepAudit(t.Context(), one, two, three); err != nil {
		t.Fatal(err)
	}
	if err := s.KeepAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("all", store.AuditList{}, three, two, one)
	check("an actor", store.AuditList{Actor: "ann"}, three, one)
	check("an outcome", store.AuditList{Outcome: store.AuditRefused}, two)
	check("a call", store.AuditList{Call: "x"}, three)
	check("an address that is none", store.AuditList{Address: "' OR 1=1 --"})
	check("a kind", store.AuditList{Kind: "route"}, one)
	check("a name", store.AuditList{Name: "a"}, three, one)
	check("a kind and a name", store.AuditList{Kind: "service", Name: "a", Actor: "ann"}, three)
	check("a kind and a name that are of two", store.AuditList{Kind: "service", Name: "b"})
	check("a time", store.AuditList{Since: two.At, Before: three.At}, two)
	check("a part", store.AuditList{Offset: 1, Limit: 1}, two)

	// With a commit, or not at all.
	w := newWriter(t, s)
	plan := w.plan(route("r"))
	committed := entry("cas", store.AuditDone, 4)
	draft := func(why error) error {
		_, err := s.Commit(t.Context(), w.head, func([]store.Revision) (*store.Draft, error) {
			return &store.Draft{Hash: plan.Config.Hash(), Changes: plan.Changes, Audit: &committed}, why
		})
		return err
	}
	if err := draft(fmt.Errorf("no")); err == nil {
		t.Error("what is not committed is no error")
	}
	check("nothing was committed", store.AuditList{Actor: "cas"})
	if err := draft(nil); err != nil {
		t.Fatal(err)
	}
	committed.Revision = 1
	check("with a commit", store.AuditList{Revision: 1}, committed)
	made := entry("dan", store.AuditDone, 5)
	if err := s.CreateToken(t.Context(), store.Token{ID: uuid.NewString(), Name: "x", CreatedAt: at,
		ExpiresAt: at.Add(time.Hour)}, made); err != nil {
		t.Fatal(err)
	}
	if s.CreateToken(t.Context(), store.Token{ID: uuid.NewString(), Name: "x", CreatedAt: at}, made) == nil {
		t.Error("a token of the same name is made")
	}
	check("with a token", store.AuditList{Actor: "dan"}, made)
	if _, err := s.Revision(t.Context(), 1); err != nil || plan.Config.ByName(config.Route, "r") == nil {
		t.Errorf("the revision: %v", err)
	}
}
