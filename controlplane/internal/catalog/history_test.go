package catalog_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/internal/store/sql"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
	"gateway.internal/shared/waittest"
)

// shared opens a store, and catalogs that follow it until stop is called.
func shared(t *testing.T) (s store.Store, follow func() (c *catalog.Catalog, stop func())) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	opened, err := sql.Open(t.Context(), "embedded:"+filepath.Join(t.TempDir(), "g.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return opened, func() (*catalog.Catalog, func()) {
		c := catalog.New(opened, log)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = c.Run(ctx)
		}()
		stop := func() { cancel(); <-done }
		t.Cleanup(stop)
		waittest.UntilNil(t, "the catalog", func() error {
			if c.Current() == nil {
				return errors.New("not loaded")
			}
			return nil
		})
		return c, stop
	}
}

// TestPrunedHistoryIsNoOtherHistory: who knows a revision that was pruned reads everything anew, and goes on in the
// same epoch.
func TestPrunedHistoryIsNoOtherHistory(t *testing.T) {
	for _, notice := range []string{"a commit", "a look"} {
		t.Run(notice, func(t *testing.T) {
			s, follow := shared(t)
			asleep, stop := follow()
			must(t, asleep, "a")
			stop()
			awake, _ := follow()
			for _, name := range []string{"b", "c", "d"} {
				must(t, awake, name)
			}
			if _, err := s.Prune(t.Context(), store.Keep{Newest: 1}, false); err != nil {
				t.Fatal(err)
			}
			known := asleep.Current()
			want := awake.Current().Revision
			if notice == "a commit" {
				v, err := commit(t, asleep, "e")
				if err != nil {
					t.Fatal(err)
				}
				want = v.Revision
			} else {
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); _ = asleep.Run(ctx) }()
				t.Cleanup(func() { cancel(); <-done })
			}
			waittest.UntilNil(t, "the newest revision", func() error {
				if n := asleep.Current().Revision; n != want {
					return errors.New("not there")
				}
				return nil
			})
			if now := asleep.Current(); now.Epoch != known.Epoch || now.Config.Len(config.Route) != int(want) {
				t.Errorf("went on in epoch %q with %d routes; it was %q", now.Epoch, now.Config.Len(config.Route), known.Epoch)
			}
			if _, err := asleep.ConfigAt(t.Context(), 2); !isPruned(err) {
				t.Errorf("revision 2: %v", err)
			}
		})
	}
}

// certificate is one with a key.
func certificate() *configv1.Certificate {
	now := timestamppb.Now()
	return &configv1.Certificate{Id: "a", Name: "a", Version: 1, CreatedAt: now, UpdatedAt: now, KeyPem: "secret"}
}

// consumer is one with a value of the environment.
func consumer() *configv1.Consumer {
	now := timestamppb.Now()
	return &configv1.Consumer{Id: "a", Name: "a", Version: 1, CreatedAt: now, UpdatedAt: now,
		Labels: map[string]string{"l": "secret"}, Environment: map[string]string{"labels.l": "${env:L}"}}
}

// commitChange commits past all catalogs.
func commitChange(t *testing.T, s store.Store, ch config.Change) {
	t.Helper()
	head, c, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), head, func([]store.Revision) (*store.Draft, error) {
		next, err := c.With([]config.Change{ch})
		if err != nil {
			return nil, err
		}
		return &store.Draft{Hash: next.Hash(), Changes: []config.Change{ch}}, nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestWhoLoadsForgets: who was asleep while a key was purged, and can't follow the revisions from which it was taken,
// has no version with that key once it has loaded the newest one.
func TestWhoLoadsForgets(t *testing.T) {
	for _, notice := range []string{"a commit", "a look", "a commit after a value", "a look after a value"} {
		t.Run(notice, func(t *testing.T) {
			s, follow := shared(t)
			asleep, stop := follow()
			var m config.Message = certificate()
			if strings.HasSuffix(notice, "value") {
				m = consumer()
			}
			e := configtest.Entry(t, m)
			commitChange(t, s, config.Change{Kind: e.Kind, After: e})
			v := must(t, asleep, "r")
			stop()
			commitChange(t, s, config.Change{Kind: e.Kind, Before: e})
			if _, err := s.PurgeSecrets(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			if asleep.At(v.Epoch, v.Revision) == nil {
				t.Fatal("the version with the key is not kept")
			}
			if strings.HasPrefix(notice, "a commit") {
				if _, err := commit(t, asleep, "s"); err != nil {
					t.Fatal(err)
				}
			} else if err := asleep.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			for n := uint32(1); n <= v.Revision; n++ {
				if asleep.At(v.Epoch, n) != nil {
					t.Errorf("revision %d, which has the key, is kept", n)
				}
			}
		})
	}
}

func isPruned(err error) bool {
	_, ok := errors.AsType[*store.PrunedError](err)
	return ok
}

// TestPurgedKeysAreForgotten: what is in memory goes with what is in the store, and the history's hashes hold.
func TestPurgedKeysAreForgotten(t *testing.T) {
	s, follow := shared(t)
	first, _ := follow()
	m := configtest.Entry(t, certificate())
	commitChange(t, s, config.Change{Kind: config.Certificate, After: m})
	commitChange(t, s, config.Change{Kind: config.Certificate, Before: m})
	v := must(t, first, "r")
	key := func() (string, error) {
		c, err := first.ConfigAt(t.Context(), 1)
		if err != nil {
			return "", err
		}
		return c.ByName(config.Certificate, "a").Message.(*configv1.Certificate).GetKeyPem(), nil
	}
	if got, err := key(); got != "secret" || err != nil {
		t.Fatalf("before the purge: %q, %v", got, err)
	}
	kept := first.At(v.Epoch, 1)
	if kept == nil {
		t.Fatal("revision 1 is not in memory")
	}
	if _, err := s.PurgeSecrets(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	waittest.UntilNil(t, "the key to be forgotten", func() error {
		got, err := key()
		if err != nil {
			t.Fatal(err)
		}
		if got != "" {
			return errors.New("it is there")
		}
		return nil
	})
	c, err := first.ConfigAt(t.Context(), 1)
	if err != nil || c.Hash() != kept.Config.Hash() {
		t.Errorf("at revision 1 the hash is %x, it was %x; %v", c.Hash(), kept.Config.Hash(), err)
	}
	if first.Current() != v {
		t.Error("the newest version was let go of")
	}
}

// purging is a store whose secrets are purged just after changes of it were read.
type purging struct {
	store.Store
	reads int
	purge func()
}

// FirstChanges implements store.Store.
func (p *purging) FirstChanges(ctx context.Context, after, upTo uint32) ([]config.Change, error) {
	changes, err := p.Store.FirstChanges(ctx, after, upTo)
	p.reads++
	if p.reads == 1 {
		p.purge()
	}
	return changes, err
}

// TestPurgeWhileRecalled: a version that is put together while a key in it is purged is given to nobody, and that it
// can't be had is known.
func TestPurgeWhileRecalled(t *testing.T) {
	s, _ := shared(t)
	m := configtest.Entry(t, certificate())
	commitChange(t, s, config.Change{Kind: config.Certificate, After: m})
	commitChange(t, s, config.Change{Kind: config.Certificate, Before: m})
	p := &purging{Store: s}
	c := catalog.New(p, slog.New(slog.DiscardHandler))
	if err := c.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.purge = func() {
		if _, err := s.PurgeSecrets(t.Context(), false); err != nil {
			t.Error(err)
		}
		if err := c.SeeHistory(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if v, err := c.VersionAt(t.Context(), c.Current().Epoch, 1); v != nil || err == nil || isPruned(err) {
			t.Errorf("it gives %v, %v", v, err)
		}
	}
	if p.reads != 2 {
		t.Errorf("the history was read %d times", p.reads)
	}
}
