package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gateway.internal/controlplane/internal/store"
)

// Who is let in to the fleet.

func keepToken(t *testing.T, s store.Store, token store.JoinToken, ttl time.Duration) store.JoinToken {
	t.Helper()
	token.Hash = [32]byte{byte(len(token.ID)), 1}
	kept, err := s.CreateJoinToken(t.Context(), token, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

func testJoinTokens(t *testing.T, e Engine) {
	a := open(t, e)
	b := a
	if e.Shared {
		b = open(t, e)
	}
	once := keepToken(t, a, store.JoinToken{ID: "once", Group: "edge", Uses: 1}, time.Hour)
	if d := once.ExpiresAt.Sub(once.CreatedAt); d != time.Hour {
		t.Errorf("it is valid for %s", d)
	}
	many := keepToken(t, a, store.JoinToken{ID: "many1"}, time.Hour)
	own := keepToken(t, a, store.JoinToken{ID: "own001", NodeID: "n9", Uses: 2}, time.Hour)
	old := keepToken(t, a, store.JoinToken{ID: "expired"}, 0)
	for what, c := range map[string]struct {
		ask  store.Admission
		says string // in the error; empty: it is let in
	}{
		"a token that expired": {store.Admission{NodeID: "n1", TokenID: old.ID, Hash: old.Hash}, "expired"},
		"a token of nobody":    {store.Admission{NodeID: "n1", TokenID: "nobody", Hash: once.Hash}, "not known"},
		"a wrong secret":       {store.Admission{NodeID: "n1", TokenID: once.ID, Hash: many.Hash}, "not known"},
		"another group": {store.Admission{NodeID: "n1", Group: "core", TokenID: once.ID, Hash: once.Hash},
			`for group "edge"`},
		"another node":           {store.Admission{NodeID: "n1", TokenID: own.ID, Hash: own.Hash}, `for node "n9"`},
		"a token for all":        {store.Admission{NodeID: "n1", Group: "x", TokenID: many.ID, Hash: many.Hash}, ""},
		"the node that is meant": {store.Admission{NodeID: "n9", TokenID: own.ID, Hash: own.Hash}, ""},
		"no token of the store":  {store.Admission{NodeID: "n1", Group: "y"}, ""},
	} {
		to, err := a.Admit(t.Context(), c.ask)
		_, refused := errors.AsType[*store.JoinTokenError](err)
		switch {
		case c.says == "" && (err != nil || to.Generation != 1 || to.Group != c.ask.Group):
			t.Errorf("%s: %v, %v", what, to, err)
		case c.says != "" && (!refused || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v", what, err)
		}
	}
	// Of many that ask at once, through all control planes, one is let in, as often as it asks.
	var all sync.WaitGroup
	var mu sync.Mutex
	var in []string
	for i := range 8 {
		all.Go(func() {
			ask := store.Admission{NodeID: fmt.Sprint("n", i), TokenID: once.ID, Hash: once.Hash, Key: [32]byte{byte(i)}}
			for range 2 {
				to, err := []store.Store{a, b}[i%2].Admit(t.Context(), ask)
				_, refused := errors.AsType[*store.JoinTokenError](err)
				mu.Lock()
				switch {
				case err == nil && to.Group == "edge":
					in = append(in, ask.NodeID)
				case !refused || !strings.Contains(err.Error(), "used already"):
					t.Errorf("%v, %v", to, err)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(in) != 2 || in[0] != in[1] {
		t.Errorf("let in: %v", in)
	}
	another := store.Admission{NodeID: in[0], TokenID: once.ID, Hash: once.Hash, Key: [32]byte{99}}
	if _, err := a.Admit(t.Context(), another); err == nil {
		t.Error("a used token is good for another key")
	}
	list, err := b.JoinTokens(t.Context())
	if err != nil || len(list) != 2 || list[0].ID != own.ID || list[0].Used != 1 || list[1].ID != many.ID ||
		list[1].Hash != [32]byte{} {
		t.Errorf("listed: %v, %v", list, err)
	}
	for _, found := range []bool{true, false} {
		if got, err := a.DeleteJoinToken(t.Context(), many.ID); got != found || err != nil {
			t.Errorf("deleted: %v, %v", got, err)
		}
	}
	if _, err := b.Admit(t.Context(), store.Admission{NodeID: "n1", TokenID: many.ID, Hash: many.Hash}); err == nil {
		t.Error("a deleted token is good")
	}
}

func testRevocations(t *testing.T, e Engine) {
	a := open(t, e)
	b := a
	if e.Shared {
		b = open(t, e)
	}
	hints := b.Watch(t.Context())
	spent := keepToken(t, a, store.JoinToken{ID: "spent", Uses: 1}, time.Hour)
	own := keepToken(t, a, store.JoinToken{ID: "own001", NodeID: "n1"}, time.Hour)
	for _, from := range []store.JoinToken{spent, own} {
		if _, err := a.Admit(t.Context(), store.Admission{NodeID: "n1", TokenID: from.ID, Hash: from.Hash}); err != nil {
			t.Fatal(err)
		}
	}
	token := keepToken(t, a, store.JoinToken{ID: "t", Uses: 5}, time.Hour)
	ask := store.Admission{NodeID: "n1", TokenID: token.ID, Hash: token.Hash}
	for turn := int64(1); turn < 4; turn++ {
		if to, err := b.Admit(t.Context(), ask); err != nil || to.Generation != turn {
			t.Errorf("turn %d: %v, %v", turn, to, err)
		}
		var first store.Revocation
		for again := range 2 {
			r, err := a.RevokeNode(t.Context(), "n1", fmt.Sprint("reason", again))
			if again == 0 {
				first = r
			}
			if err != nil || !r.Revoked || r.Generation != turn+1 || r.NodeID != "n1" || !r.At.Equal(first.At) ||
				time.Since(r.At).Abs() > time.Hour {
				t.Errorf("revoked: %v, %v", r, err)
			}
		}
		waitFor(t, hints, "a revocation", func() bool {
			list, err := b.Revocations(t.Context())
			return err == nil && len(list) == 1 && list[0].Revoked && list[0].Reason == "reason1" && list[0].Generation == turn+1
		})
		if _, err := b.Admit(t.Context(), ask); !isRevoked(err) {
			t.Errorf("a revoked node, with a token: %v", err)
		}
		if _, err := b.Admit(t.Context(), store.Admission{NodeID: "n1"}); !isRevoked(err) {
			t.Errorf("a revoked node, without one: %v", err)
		}
		for _, found := range []bool{true, false} {
			if got, err := b.ReadmitNode(t.Context(), "n1"); got != found || err != nil {
				t.Errorf("readmitted: %v, %v", got, err)
			}
		}
	}
	// What lay on the revoked machine, its key too, lets nobody in as the node that is readmitted.
	for _, from := range []store.JoinToken{spent, own} {
		to, err := a.Admit(t.Context(), store.Admission{NodeID: "n1", TokenID: from.ID, Hash: from.Hash})
		if _, refused := errors.AsType[*store.JoinTokenError](err); !refused {
			t.Errorf("token %s of the time before the revocation: %v, %v", from.ID, to, err)
		}
	}
	list, err := a.JoinTokens(t.Context())
	if err != nil || slices.ContainsFunc(list, func(j store.JoinToken) bool { return j.Used != 3 }) {
		t.Errorf("a refused node has used a token: %v, %v", list, err)
	}
}

// testAuditedAdmissions: the audit trail has who was let in by the time that it is done, and nothing of what was not
// done.
func testAuditedAdmissions(t *testing.T, e Engine) {
	s := open(t, e)
	entry := func(call string) store.AuditEntry {
		return store.AuditEntry{
			At: time.Unix(1e9, 0), Actor: "ann", Call: call, Outcome: store.AuditDone, Count: 1,
			Resources: []store.AuditResource{{Kind: "node", Name: call}},
		}
	}
	said := func() (calls []string) {
		t.Helper()
		list, _, err := s.Audit(t.Context(), store.AuditList{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range slices.Backward(list) {
			calls = append(calls, e.Call)
		}
		return calls
	}
	ctx, hash := t.Context(), [32]byte{1}
	ask := store.Admission{NodeID: "n1", TokenID: "one", Hash: hash}
	steps := []struct {
		call string
		done bool
		do   func(ctx context.Context, e store.AuditEntry) error
	}{
		{"create", true, func(ctx context.Context, e store.AuditEntry) error {
			_, err := s.CreateJoinToken(ctx, store.JoinToken{ID: "one", Hash: hash, Uses: 1}, time.Hour, e)
			return err
		}},
		{"use", true, func(ctx context.Context, e store.AuditEntry) error { _, err := s.Admit(ctx, ask, e); return err }},
		{"use by another", false, func(ctx context.Context, e store.AuditEntry) error {
			_, err := s.Admit(ctx, store.Admission{NodeID: "n2", TokenID: "one", Hash: hash}, e)
			return err
		}},
		{"delete", true, func(ctx context.Context, e store.AuditEntry) error {
			_, err := s.DeleteJoinToken(ctx, "one", e)
			return err
		}},
		{"delete again", false, func(ctx context.Context, e store.AuditEntry) error {
			_, err := s.DeleteJoinToken(ctx, "one", e)
			return err
		}},
		{"revoke", true, func(ctx context.Context, e store.AuditEntry) error {
			_, err := s.RevokeNode(ctx, "n1", "", e)
			return err
		}},
		{"readmit", true, func(ctx context.Context, e store.AuditEntry) error {
			_, err := s.ReadmitNode(ctx, "n1", e)
			return err
		}},
		{"readmit again", false, func(ctx context.Context, e store.AuditEntry) error {
			_, err := s.ReadmitNode(ctx, "n1", e)
			return err
		}},
	}
	var want []string
	for _, step := range steps {
		if err := step.do(ctx, entry(step.call)); step.done && err != nil {
			t.Errorf("%s: %v", step.call, err)
		}
		if step.done {
			want = append(want, step.call)
		}
		if got := said(); !slices.Equal(got, want) {
			t.Errorf("after %s the trail has %q, want %q", step.call, got, want)
		}
	}
}

func isRevoked(err error) bool {
	_, is := errors.AsType[*store.RevokedError](err)
	return is
}

// waitFor looks at a condition after every hint.
func waitFor(t *testing.T, hints <-chan struct{}, what string, holds func() bool) {
	t.Helper()
	for limit := time.After(time.Minute); !holds(); {
		select {
		case <-hints:
		case <-limit:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}
