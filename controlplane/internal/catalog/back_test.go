package catalog_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// asked counts the calls that go back in the history.
type asked struct {
	store.Store
	calls int
}

func (a *asked) Revision(ctx context.Context, number uint32) (store.Revision, error) {
	a.calls++
	return a.Store.Revision(ctx, number)
}

func (a *asked) FirstChanges(ctx context.Context, after, upTo uint32) ([]config.Change, error) {
	a.calls++
	return a.Store.FirstChanges(ctx, after, upTo)
}

// TestFarBackIsAskedForOnce: how far back a revision is does not decide how often the store is asked.
func TestFarBackIsAskedForOnce(t *testing.T) {
	s, follow := shared(t)
	first, stop := follow()
	var hash [32]byte
	for i := range 70 {
		edit := config.Edit{Kind: config.Route, Put: &configv1.Route{Name: fmt.Sprint("r", i%3),
			Path: fmt.Sprint("/", i), DirectResponse: &configv1.DirectResponse{}}}
		c, err := first.Commit(t.Context(), catalog.CommitRequest{
			Edits: func(*catalog.Version) ([]config.Edit, error) { return []config.Edit{edit}, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			hash = c.Version.Config.Hash()
		}
	}
	stop()
	counted := &asked{Store: s}
	c := catalog.New(counted, slog.New(slog.DiscardHandler)) // which has none of the versions before the newest
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	defer func() { cancel(); <-done }()
	waittest.UntilNil(t, "the catalog", func() error {
		if c.Current() == nil {
			return fmt.Errorf("not loaded")
		}
		return nil
	})
	before := counted.calls
	conf, err := c.ConfigAt(t.Context(), 2)
	if err != nil || conf.Hash() != hash {
		t.Fatalf("revision 2 has another content, %v", err)
	}
	if n := counted.calls - before; n > 2 {
		t.Errorf("%d calls of the store for 68 revisions", n)
	}
}
