package catalog_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"gateway.internal/controlplane/internal/catalog"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
	"gateway.internal/shared/waittest"
)

// TestBesideALaterBuild: a replica of a later build commits a field that this one does not know. This one follows,
// starts, goes back in the history and changes that resource, and what both say is the same content.
func TestBesideALaterBuild(t *testing.T) {
	s, follow := shared(t)
	runs, _ := follow()
	must(t, runs, "a")
	m := proto.CloneOf(runs.Current().Config.ByName(config.Route, "a").Message.(*configv1.Route))
	before := configtest.Entry(t, proto.CloneOf(m))
	m.Labels = map[string]string{"a": "1", "b": "2"}
	newer := configtest.Newer(t, m)
	commitChange(t, s, config.Change{Kind: config.Route, Before: before, After: newer})
	later, err := s.Revision(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	waittest.UntilNil(t, "the later build's revision", func() error {
		if v := runs.Current(); v.Revision != 2 || v.Config.Hash() != later.Hash {
			return errors.New("not followed")
		}
		return runs.StoreError()
	})
	started, _ := follow()
	if v := started.Current(); v.Config.Hash() != later.Hash || len(v.Config.Unknown()) != 1 {
		t.Errorf("started with %x, the revision says %x", v.Config.Hash(), later.Hash)
	}
	changed := proto.CloneOf(newer.Message.(*configv1.Route))
	changed.Priority = 5
	v, err := started.Commit(t.Context(), catalog.CommitRequest{Edits: func(*catalog.Version) ([]config.Edit, error) {
		return []config.Edit{{Kind: config.Route, Put: changed}}, nil
	}})
	if err != nil || len(v.Version.Config.Unknown()) != 1 {
		t.Fatalf("a change by this build: %v", err)
	}
	fresh, _ := follow()
	if fresh.Current().Config.Hash() != v.Version.Config.Hash() {
		t.Error("what this build committed has another hash when it is read")
	}
	for number := uint32(1); number <= 2; number++ {
		r, err := s.Revision(t.Context(), number)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := fresh.ConfigAt(t.Context(), number); err != nil || c.Hash() != r.Hash {
			t.Errorf("at revision %d: %v", number, err)
		}
	}
}
