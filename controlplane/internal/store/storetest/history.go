package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
)

// isPruned reports whether an error says that the history begins at oldest.
func isPruned(err error, oldest uint32) bool {
	p, ok := errors.AsType[*store.PrunedError](err)
	return ok && p.Oldest == oldest
}

func testPrune(t *testing.T, e Engine) {
	s := open(t, e)
	if n, err := s.Prune(t.Context(), store.Keep{Newest: 1}, false); n != 0 || err != nil {
		t.Errorf("pruning nothing: %d, %v", n, err)
	}
	w := newWriter(t, s)
	heads := []store.Head{w.head}
	for i := range 10 {
		r := w.must(route(fmt.Sprint("r", i)))
		heads = append(heads, store.Head{Epoch: w.head.Epoch, Number: r.Number, Hash: r.Hash})
	}
	for _, dry := range []bool{true, false} {
		if h, err := s.History(t.Context()); err != nil || h.Oldest != 1 {
			t.Fatalf("the history is %+v, %v", h, err)
		}
		if n, err := s.Prune(t.Context(), store.Keep{Newest: 4}, dry); n != 6 || err != nil {
			t.Errorf("dry %t: removed %d, %v", dry, n, err)
		}
	}
	if h, err := s.History(t.Context()); err != nil || h.Oldest != 7 {
		t.Errorf("the history is %+v, %v", h, err)
	}
	list, total, err := s.Revisions(t.Context(), store.List{Limit: 100})
	if err != nil || total != 4 || list[len(list)-1].Number != 7 {
		t.Errorf("%d revisions, %v", total, err)
	}
	for number, want := range map[uint32]bool{1: true, 6: true, 7: false, 10: false} {
		if r, err := s.Revision(t.Context(), number); want != isPruned(err, 7) || !want && len(r.Changes) != 1 {
			t.Errorf("revision %d: %v", number, err)
		}
	}
	for _, number := range []uint32{0, 11} {
		if _, err := s.Revision(t.Context(), number); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("revision %d: %v", number, err)
		}
	}
	// Who knows a revision that is gone is told so, and is not told that the history is another one.
	for i, head := range heads {
		list, err := s.Since(t.Context(), head, 100)
		if i < 7 && !isPruned(err, 7) || i >= 7 && (err != nil || len(list) != 10-i) {
			t.Errorf("since %d: %d, %v", i, len(list), err)
		}
	}
	other := heads[3]
	other.Epoch = "other"
	if _, err := s.Since(t.Context(), other, 100); !errors.Is(err, store.ErrEpochChanged) {
		t.Errorf("since a pruned revision of another epoch: %v", err)
	}
	plan := func([]store.Revision) (*store.Draft, error) {
		t.Error("planned")
		return nil, nil //nolint:nilnil // nothing to commit
	}
	if _, err := s.Commit(t.Context(), heads[3], plan); !isPruned(err, 7) {
		t.Errorf("a commit on a pruned revision: %v", err)
	}
	if r := w.must(route("more")); r.Number != 11 {
		t.Errorf("went on with revision %d", r.Number)
	}
	if head, c, err := s.Load(t.Context()); err != nil || head.Number != 11 || c.Hash() != w.conf.Hash() {
		t.Errorf("loaded %v, %v", head, err)
	}
	for name, c := range map[string]struct {
		keep store.Keep
		want int
	}{
		"all are young":                    {store.Keep{Newest: 1, Since: time.Now().Add(-time.Hour)}, 0},
		"more than there are":              {store.Keep{Newest: 1000}, 0},
		"all are old, some are to be kept": {store.Keep{Newest: 2, Since: time.Now().Add(time.Hour)}, 3},
		"the newest stays":                 {store.Keep{Since: time.Now().Add(time.Hour)}, 4},
	} {
		if n, err := s.Prune(t.Context(), c.keep, true); n != c.want || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	if n, err := s.Prune(t.Context(), store.Keep{}, false); n != 4 || err != nil {
		t.Errorf("all but the newest: %d, %v", n, err)
	}
}

// keyed commits changes of certificates, whose keys the store does not read.
func (w *writer) keyed(changes ...config.Change) store.Revision {
	w.t.Helper()
	r, err := w.store.Commit(w.t.Context(), w.head, func([]store.Revision) (*store.Draft, error) {
		next, err := w.conf.With(changes)
		if err != nil {
			return nil, err
		}
		w.conf = next
		return &store.Draft{Hash: next.Hash(), Changes: changes}, nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.head.Number = r.Number
	return r
}

func certificate(id, key string) *configv1.Certificate {
	now := timestamppb.Now()
	return &configv1.Certificate{
		Id: id, Name: "name of " + id, Version: 1, CreatedAt: now, UpdatedAt: now, CertPem: "public", KeyPem: key,
	}
}

// testPurge: keys that are not in the newest configuration go from the history, and what the hashes say can still be
// verified.
func testPurge(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	a1, a2, b := certificate("a", "key a1"), certificate("a", "key a2"), certificate("b", "key b")
	entry := func(m config.Message) *config.Entry { return configtest.Entry(t, m) }
	both := w.keyed(config.Change{Kind: config.Certificate, After: entry(a1)},
		config.Change{Kind: config.Certificate, After: entry(b)},
		config.Change{Kind: config.Certificate, After: entry(certificate("c", ""))})
	renewed := w.keyed(config.Change{Kind: config.Certificate, Before: entry(a1), After: entry(a2)})
	w.must(route("r"))
	deleted := w.keyed(config.Change{Kind: config.Certificate, Before: entry(b)})
	want := store.Purged{Revisions: 3, Keys: 2, Certificates: []string{"name of a", "name of b"}}
	for _, dry := range []bool{true, false} {
		got, err := s.PurgeSecrets(t.Context(), dry)
		if err != nil || got.Keys != want.Keys || got.Revisions != want.Revisions || !slices.Equal(got.Certificates, want.Certificates) {
			t.Errorf("dry %t: %+v, %v", dry, got, err)
		}
		if h, err := s.History(t.Context()); err != nil || h.Purges != map[bool]int64{true: 0, false: 1}[dry] {
			t.Errorf("dry %t: %+v, %v", dry, h, err)
		}
	}
	if got, err := s.PurgeSecrets(t.Context(), false); err != nil || got.Keys != 0 || got.Revisions != 0 {
		t.Errorf("again: %+v, %v", got, err)
	}
	key := func(m config.Message) string {
		c, _ := m.(*configv1.Certificate)
		return c.GetKeyPem()
	}
	for number, want := range map[uint32][]string{both.Number: {"|", "|", "|"}, renewed.Number: {"|key a2"}, deleted.Number: {"|"}} {
		r, err := s.Revision(t.Context(), number)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, ch := range r.Changes {
			before, after := ch.Messages()
			got = append(got, key(before)+"|"+key(after))
		}
		if !slices.Equal(got, want) || r.PurgedCount != map[uint32]int{both.Number: 2, renewed.Number: 1, deleted.Number: 1}[number] {
			t.Errorf("revision %d has the keys %q; %d were purged", number, got, r.PurgedCount)
		}
	}
	head, c, err := s.Load(t.Context())
	if err != nil || c.Hash() != w.conf.Hash() {
		t.Fatalf("loaded %v, %v", head, err)
	}
	for n := head.Number; n > 1; n-- {
		r, err := s.Revision(t.Context(), n)
		if err != nil || c.Hash() != r.Hash {
			t.Errorf("at revision %d the hash is %x, the revision says %x; %v", n, c.Hash(), r.Hash, err)
		}
		if c, err = c.With(config.Invert(r.Changes)); err != nil {
			t.Fatal(err)
		}
	}
	if c.Hash() != both.Hash {
		t.Errorf("at revision 1 the hash is %x, the revision says %x", c.Hash(), both.Hash)
	}
	old := c.ByID(config.Certificate, "a").Message
	bare := proto.CloneOf(a1)
	bare.KeyPem = ""
	if !proto.Equal(old, bare) {
		t.Errorf("at revision 1 there was %v", old)
	}
	if list, total, err := s.Revisions(t.Context(), store.List{Limit: 10}); err != nil || total != 4 || list[3].PurgedCount != 2 {
		t.Errorf("listed %v, %v", list, err)
	}
}

// fromEnvironment are resources of several kinds with values that a file took from the environment, among them one
// whose text is none that its field takes.
func fromEnvironment(t *testing.T, token, age, host string) []config.Edit {
	t.Helper()
	settings := func(fields map[string]any) *structpb.Struct {
		s, err := structpb.NewStruct(fields)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	return []config.Edit{
		put(&configv1.Middleware{
			Name: "auth", Type: "headers",
			Config:      settings(map[string]any{"request": map[string]any{"set": map[string]any{"A": "Bearer " + token}}}),
			Environment: map[string]string{"config.request.set.A": "Bearer ${env:TOKEN}"},
		}),
		put(&configv1.Middleware{
			Name: "cross", Type: "cors", Config: settings(map[string]any{"allow_origins": []any{"*"}, "max_age": age}),
			Environment: map[string]string{"config.max_age": "${env:AGE}"},
		}),
		put(&configv1.Service{
			Name: "s", Endpoints: []*configv1.Endpoint{{Host: host, Port: 80}},
			Environment: map[string]string{"endpoints[0].host": "${env:HOST}"},
		}),
		put(&configv1.Consumer{
			Name: "same", Labels: map[string]string{"host": "kept.test"},
			Environment: map[string]string{"labels.host": "${env:KEPT}"},
		}),
	}
}

// testPurgeValues: nothing that is stored has a value of the environment that the newest configuration does not have,
// and what the hashes say can still be verified.
func testPurgeValues(t *testing.T, e Engine) {
	s := open(t, e)
	w := newWriter(t, s)
	gone := []string{"old-canary", "54321s", "canary.test"}
	first := w.must(fromEnvironment(t, gone[0], gone[1], gone[2])...)
	w.must(route("r"))
	second := w.must(fromEnvironment(t, "new-token", "60s", "now.test")...)
	third := w.must(config.Edit{Kind: config.Service, Delete: "s"})
	content := e.Content(t)
	for _, value := range append(gone, "new-token", "kept.test", "now.test") {
		if strings.Contains(content, value) == e.Sealed {
			t.Fatalf("%s is stored as it is: %t", value, !e.Sealed)
		}
	}
	for _, dry := range []bool{true, false} {
		got, err := s.PurgeSecrets(t.Context(), dry)
		want := store.Purged{Revisions: 3, Values: 4, Fields: []string{
			"middleware auth: config.request.set.A", "middleware cross: config.max_age", "service s: endpoints[0].host"}}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Errorf("dry %t: %v\n%s", dry, err, diff)
		}
	}
	if got, err := s.PurgeSecrets(t.Context(), false); err != nil || got.Values != 0 || got.Revisions != 0 {
		t.Errorf("again: %+v, %v", got, err)
	}
	content = e.Content(t)
	for value, there := range map[string]bool{
		gone[0]: false, gone[1]: false, gone[2]: false, "now.test": false, "new-token": true, "kept.test": true,
	} {
		if strings.Contains(content, value) != (there && !e.Sealed) {
			t.Errorf("%s is stored: %t", value, !there)
		}
	}
	head, c, err := s.Load(t.Context())
	if err != nil || c.Hash() != w.conf.Hash() {
		t.Fatalf("loaded %v, %v", head, err)
	}
	for n := head.Number; n > 0; n-- {
		r, err := s.Revision(t.Context(), n)
		if err != nil || c.Hash() != r.Hash {
			t.Errorf("at revision %d the hash is %x, the revision says %x; %v", n, c.Hash(), r.Hash, err)
		}
		purged := map[uint32]int{first.Number: 3, second.Number: 3, third.Number: 1}[n]
		if r.PurgedCount != purged {
			t.Errorf("revision %d: %d were purged", n, r.PurgedCount)
		}
		if n == first.Number {
			m := c.ByName(config.Middleware, "auth").Message
			_, unknown := config.PutValuesBack(proto.CloneOf(m), nil)
			if !slices.Equal(unknown, []string{"config.request.set.A"}) || !proto.Equal(config.Redacted(m), m) {
				t.Errorf("at revision %d there was %v, without %v", n, m, unknown)
			}
		}
		if c, err = c.With(config.Invert(r.Changes)); err != nil {
			t.Fatal(err)
		}
	}
	if c.Hash() != config.Empty().Hash() {
		t.Error("at the beginning there was something")
	}
	if r := w.must(route("more")); r.Number != third.Number+1 {
		t.Errorf("went on with revision %d", r.Number)
	}
}
