package stream

import (
	"fmt"
	"log/slog"
	"testing"

	"gateway.internal/controlplane/internal/catalog"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// TestShrinkOverAGap: what a revision was allowed counts for whoever goes over it to a later one, by a delta or by a
// full snapshot.
func TestShrinkOverAGap(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("the node's revision is known: %t", known), func(t *testing.T) {
			p := newPlane(t)
			commit := func(allow bool, edits ...config.Edit) *catalog.Version {
				c, err := p.catalog.Commit(t.Context(), catalog.CommitRequest{AllowShrink: allow,
					Edits: func(*catalog.Version) ([]config.Edit, error) { return edits, nil }})
				if err != nil {
					t.Fatal(err)
				}
				return c.Version
			}
			var add, remove []config.Edit
			for i := range 20 {
				add = append(add, route(fmt.Sprint("r", i)))
				if i > 0 {
					remove = append(remove, config.Edit{Kind: config.Route, Delete: fmt.Sprint("r", i)})
				}
			}
			commit(false, add...)
			n := &node{t: t, id: "n1"}
			n.connect(p, token)
			if u := n.receive(); u.GetAllowShrink() {
				t.Error("the first revision allows what it was not allowed")
			}
			n.close()
			if !known {
				n.config = config.Empty() // another content than that revision has here
			}
			commit(true, remove...)
			v := commit(false, route("later"))
			n.connect(p, token)
			defer n.close()
			if u := n.receive(); !u.GetAllowShrink() || u.GetRevision() != v.Revision {
				t.Errorf("revision %d over one that was allowed to shrink: allow_shrink is %t", u.GetRevision(), u.GetAllowShrink())
			}
			n.answer(&streamv1.Update{Epoch: v.Epoch, Revision: v.Revision}, streamv1.Result_OUTCOME_APPLIED)
			next := commit(false, route("next"))
			if u := n.receive(); u.GetRevision() != next.Revision || u.GetAllowShrink() {
				t.Errorf("the next one, %d: allow_shrink is %t", u.GetRevision(), u.GetAllowShrink())
			}
		})
	}
}

// TestShrinkOverAnEpoch: a revision that may shrink lets nodes of a former epoch through, also when others follow it
// and when another control plane serves them. Those before the epoch began do not.
func TestShrinkOverAnEpoch(t *testing.T) {
	p := newPlane(t)
	commit := func(allow bool, name string) {
		t.Helper()
		edits := []config.Edit{route(name)}
		if _, err := p.catalog.Commit(t.Context(), catalog.CommitRequest{AllowShrink: allow,
			Edits: func(*catalog.Version) ([]config.Edit, error) { return edits, nil }}); err != nil {
			t.Fatal(err)
		}
	}
	allowed := func(c *catalog.Catalog, want bool) {
		t.Helper()
		if got := mayShrink("former", 7, c.Current()); got != want {
			t.Errorf("revision %d: may shrink: %t", c.Current().Revision, got)
		}
	}
	commit(true, "a")
	commit(false, "b")
	allowed(p.catalog, true)
	if err := p.store.BeginEpoch(t.Context(), p.catalog.Current().Epoch); err != nil {
		t.Fatal(err)
	}
	if err := p.catalog.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(false, "c")
	allowed(p.catalog, false)
	commit(true, "d")
	commit(false, "e")
	allowed(p.catalog, true)
	other := catalog.New(p.store, slog.New(slog.DiscardHandler))
	if err := other.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	allowed(other, true)

	n := &node{t: t, id: "n1", epoch: "former", revision: 7}
	n.connect(p, token)
	defer n.close()
	if u := n.receive(); !u.GetAllowShrink() || u.GetBaseRevision() != 0 {
		t.Errorf("revision %d from %d: allow_shrink is %t", u.GetRevision(), u.GetBaseRevision(), u.GetAllowShrink())
	}
}
