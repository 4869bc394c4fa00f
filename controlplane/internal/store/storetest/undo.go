package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// testFirstChanges goes back from the newest revision to each before, over resources that come, change, go and come
// again.
func testFirstChanges(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	hashes := [][32]byte{w.conf.Hash()}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 30 {
		var edits []config.Edit
		for _, j := range random.Perm(6)[:1+i%3] {
			name := fmt.Sprint("r", j)
			if w.conf.ByName(config.Route, name) != nil && random.IntN(2) == 0 {
				edits = append(edits, config.Edit{Kind: config.Route, Delete: name})
			} else {
				edits = append(edits, put(&configv1.Route{Name: name, Path: fmt.Sprint("/", i),
					DirectResponse: &configv1.DirectResponse{}}))
			}
		}
		hashes = append(hashes, w.must(edits...).Hash)
	}
	for back := range hashes {
		changes, err := s.FirstChanges(t.Context(), uint32(back), w.head.Number)
		if err != nil {
			t.Fatal(err)
		}
		ids := map[string]bool{}
		changes = slices.DeleteFunc(config.Invert(changes), func(ch config.Change) bool {
			if ids[ch.ID()] {
				t.Errorf("back to %d: %s is there twice", back, ch.ID())
			}
			ids[ch.ID()] = true
			return ch.After == nil && w.conf.ByID(ch.Kind, ch.ID()) == nil
		})
		got, err := w.conf.With(changes)
		if err != nil || got.Hash() != hashes[back] {
			t.Errorf("back to %d by %d changes: another content, %v", back, len(changes), err)
		}
	}
	middle, err := s.FirstChanges(t.Context(), 9, 10)
	if r, _ := s.Revision(t.Context(), 10); err != nil || len(middle) != len(r.Changes) {
		t.Errorf("of revision 10 alone: %d of %d, %v", len(middle), len(r.Changes), err)
	}
	if _, err := s.Prune(t.Context(), store.Keep{Newest: 10}, false); err != nil {
		t.Fatal(err)
	}
	for after, pruned := range map[uint32]bool{0: true, 19: true, 20: false, 30: false} {
		if _, err := s.FirstChanges(t.Context(), after, w.head.Number); pruned != isPruned(err, 21) {
			t.Errorf("after %d: %v", after, err)
		}
	}
}
