package storetest

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
)

// testBuilds: a later build commits resources with fields that this one does not know. Whatever is read has the bytes,
// and so the hash, of what was committed, also after this build has changed something.
func testBuilds(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	var created, updated []config.Change
	for _, m := range configtest.OfEachKind() {
		created = append(created, config.Change{Kind: config.KindOfMessage(m), After: configtest.Newer(t, m)})
	}
	first := w.keyed(created...)
	loaded := func(want [32]byte) *config.Config {
		t.Helper()
		_, c, err := s.Load(t.Context())
		if err != nil || c.Hash() != want || len(c.Unknown()) != len(created) {
			t.Fatalf("loaded %x with unknown fields of %d resources, want %x; %v", c.Hash(), len(c.Unknown()), want, err)
		}
		return c
	}
	c := loaded(first.Hash)
	newer, err := s.Since(t.Context(), store.Head{Epoch: w.head.Epoch}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if followed, err := config.Empty().With(newer[0].Changes); err != nil || followed.Hash() != first.Hash {
		t.Errorf("followed to another content; %v", err)
	}
	for _, ch := range created {
		before := c.ByID(ch.Kind, ch.ID())
		m := proto.CloneOf(before.Message)
		m.GetLabels()["changed"] = "by this build"
		updated = append(updated, config.Change{Kind: ch.Kind, Before: before, After: configtest.Entry(t, m)})
	}
	second := w.keyed(updated...)
	loaded(second.Hash)
	undo, err := s.FirstChanges(t.Context(), first.Number, second.Number)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := c.With(config.Invert(undo)); err != nil || back.Hash() != first.Hash {
		t.Errorf("back at revision %d the content is another; %v", first.Number, err)
	}
	r, err := s.Revision(t.Context(), second.Number)
	if err != nil || !slices.EqualFunc(r.Changes, updated, func(a, b config.Change) bool {
		return a.Before.Hash() == b.Before.Hash() && a.After.Hash() == b.After.Hash()
	}) {
		t.Errorf("revision %d has other changes; %v", second.Number, err)
	}
}
