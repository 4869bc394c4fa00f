package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/internal/store/sql"
	"gateway.internal/controlplane/testserver"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// open returns a catalog that follows a store until the test ends.
func open(t *testing.T, url string) *catalog.Catalog {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s, err := sql.Open(t.Context(), url, log)
	if err != nil {
		t.Fatal(err)
	}
	c := catalog.New(s, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = s.Close()
	})
	waittest.UntilNil(t, "the catalog", func() error {
		if c.Current() == nil {
			return errors.New("not loaded")
		}
		return nil
	})
	return c
}

func commit(t *testing.T, c *catalog.Catalog, name string) (*catalog.Version, error) {
	t.Helper()
	done, err := c.Commit(t.Context(), catalog.CommitRequest{Edits: func(*catalog.Version) ([]config.Edit, error) {
		return []config.Edit{{Kind: config.Route, Put: &configv1.Route{Name: name, Path: "/" + name, DirectResponse: &configv1.DirectResponse{}}}}, nil
	}})
	if err != nil {
		return nil, err
	}
	return done.Version, nil
}

// must commits, and repeats what came just when another epoch began, as callers are told to.
func must(t *testing.T, c *catalog.Catalog, name string) (v *catalog.Version) {
	t.Helper()
	testserver.WaitFor(t, "a commit", func() (err error) {
		if v, err = commit(t, c, name); err != nil && !errors.Is(err, store.ErrEpochChanged) {
			t.Fatal(err)
		}
		return err
	})
	return v
}

// TestRestored: a backup takes the place of the database, and says of itself that it is the same epoch. Whoever notices
// first begins another one.
func TestRestored(t *testing.T) {
	for _, test := range []struct {
		name string
		// after is what happens to the restored database, before anybody of those who knew the lost history looks.
		after func(t *testing.T, server *testserver.PostgreSQL)
		// notice makes a catalog that knew the lost history, or learns of it, notice.
		notice func(t *testing.T, c *catalog.Catalog, lost *catalog.Version)
		fresh  bool // the catalog is opened after the restore
	}{
		{name: "a commit notices", notice: func(t *testing.T, c *catalog.Catalog, _ *catalog.Version) {
			if _, err := commit(t, c, "again"); err != nil && !errors.Is(err, store.ErrEpochChanged) {
				t.Error(err)
			}
		}},
		{name: "a look notices"},
		{name: "others have gone on, to the same number", after: func(t *testing.T, server *testserver.PostgreSQL) {
			other := open(t, server.URL)
			for _, name := range []string{"x", "y", "z"} {
				must(t, other, name)
			}
		}},
		{name: "a node tells", fresh: true, notice: func(t *testing.T, c *catalog.Catalog, lost *catalog.Version) {
			if err := c.NodeRuns(t.Context(), lost.Epoch, lost.Revision); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := testserver.NewPostgreSQL(t)
			c := open(t, server.URL)
			must(t, c, "a")
			backup := server.Dump()
			must(t, c, "b")
			must(t, c, "c")
			lost := must(t, c, "d")
			server.Restore(backup)
			if test.after != nil {
				test.after(t, server)
			}
			if test.fresh {
				c = open(t, server.URL)
			}
			if test.notice != nil {
				test.notice(t, c, lost)
			}
			waittest.UntilNil(t, "a new epoch", func() error {
				if v := c.Current(); v.Epoch == lost.Epoch {
					return fmt.Errorf("revision %d of the epoch that was lost", v.Revision)
				}
				return nil
			})
			v := must(t, c, "e")
			if v.Config.ByName(config.Route, "d") != nil || v.Config.ByName(config.Route, "a") == nil {
				t.Error("the content is not the backup's")
			}
			if other := open(t, server.URL); other.Current().Epoch != v.Epoch || other.Current().Revision != v.Revision {
				t.Errorf("another one sees %d of %s, this one %d of %s", other.Current().Revision, other.Current().Epoch, v.Revision, v.Epoch)
			}
		})
	}
}

// TestNodesWordIsChecked: a node that is ahead of what this process has seen is ahead of nothing else.
func TestNodesWordIsChecked(t *testing.T) {
	server := testserver.NewPostgreSQL(t)
	c, other := open(t, server.URL), open(t, server.URL)
	must(t, c, "a")
	v := must(t, other, "b")
	if err := c.NodeRuns(t.Context(), v.Epoch, v.Revision); err != nil || c.Current().Epoch != v.Epoch || c.Current().Revision != v.Revision {
		t.Errorf("%v; revision %d of %s", err, c.Current().Revision, c.Current().Epoch)
	}
	for range 3 {
		if err := c.NodeRuns(t.Context(), c.Current().Epoch, 1000); err != nil {
			t.Error(err)
		}
	}
	first := c.Current().Epoch
	if first == v.Epoch {
		t.Error("a revision that is lost began no epoch")
	}
	if err := c.NodeRuns(t.Context(), first, 1000); err != nil || c.Current().Epoch != first {
		t.Errorf("%v; a node's word began an epoch twice", err)
	}
}
