package sql

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"gateway.internal/controlplane/internal/seal"
	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/testserver"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/secretkey"
)

// replica is a control plane's view of a store: it commits on what it knows, and reads nothing before.
type replica struct {
	*Store
	head store.Head
	c    *config.Config
}

func newReplica(t *testing.T, server *testserver.PostgreSQL, keys []secretkey.Key) *replica {
	t.Helper()
	s, err := OpenSealed(t.Context(), server.URL, keys, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	head, c, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &replica{s, head, c}
}

// commit puts a route with a secret.
func (r *replica) commit(t *testing.T, name, secret string) {
	t.Helper()
	plan, err := r.c.Plan([]config.Edit{{Kind: config.Route, Put: &configv1.Route{
		Name: name, Path: "/" + name, Environment: map[string]string{"direct_response.body": "${env:TOKEN}"},
		DirectResponse: &configv1.DirectResponse{Body: secret},
	}}}, config.PlanOptions{Now: time.Now(), NewID: uuid.NewString})
	if err != nil {
		t.Fatal(err)
	}
	done, err := r.Commit(t.Context(), r.head, func([]store.Revision) (*store.Draft, error) {
		return &store.Draft{Hash: plan.Config.Hash(), Changes: plan.Changes}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.head.Number, r.c = done.Number, plan.Config
}

// sealedBy returns the data keys that a route's body and its history are sealed by.
func (r *replica) sealedBy(t *testing.T, name string) []int64 {
	t.Helper()
	var body, after []byte
	if err := r.db.QueryRowContext(t.Context(), "SELECT body, (SELECT after FROM revision_changes WHERE resource_id = "+
		"routes.id ORDER BY revision DESC LIMIT 1) FROM routes WHERE name = $1", name).Scan(&body, &after); err != nil {
		t.Fatal(err)
	}
	return []int64{seal.SealedBy(body), seal.SealedBy(after)}
}

// secretsOf reads a store as a process does that has just started.
func secretsOf(t *testing.T, server *testserver.PostgreSQL, keys []secretkey.Key) map[string]string {
	t.Helper()
	fresh := newReplica(t, server, keys)
	got := map[string]string{}
	for e := range fresh.c.All(config.Route) {
		got[e.Name()] = e.Message.(*configv1.Route).GetDirectResponse().GetBody()
	}
	return got
}

// TestAGivenUpDataKeySealsNothing: once all is encrypted anew, no control plane uses the data key before, which others
// may know, whether or not it has met the new one.
func TestAGivenUpDataKeySealsNothing(t *testing.T) {
	server, keys := testserver.NewPostgreSQL(t), newKeys(t)
	one := newReplica(t, server, keys)
	one.commit(t, "first", canary)
	if _, err := newReplica(t, server, keys).Rotate(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if one.seal.Newest() != 1 {
		t.Fatal("it knows the new data key already: this test sees nothing")
	}
	one.commit(t, "second", secondCanary)
	if got := one.sealedBy(t, "second"); !slices.Equal(got, []int64{2, 2}) {
		t.Errorf("sealed by %v", got)
	}
	if _, err := newReplica(t, server, keys).Rotate(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	own(t, one.Store)
	var value []byte
	row := one.db.QueryRowContext(t.Context(), "SELECT value FROM secrets WHERE name = 'own'")
	if err := row.Scan(&value); err != nil {
		t.Fatal(err)
	}
	if seal.SealedBy(value) != 3 {
		t.Errorf("a secret of the control plane's own is sealed by %d", seal.SealedBy(value))
	}
}

// TestDataKeysOfABackup: what is written after a backup was restored, under control planes that go on, can be read by
// those that start later, though they knew data keys that are not in the backup.
func TestDataKeysOfABackup(t *testing.T) {
	type servers = *testserver.PostgreSQL
	for name, backup := range map[string]func(*testing.T, servers, []secretkey.Key) (string, *replica){
		"from before another data key": func(t *testing.T, server servers, keys []secretkey.Key) (string, *replica) {
			r := newReplica(t, server, keys)
			r.commit(t, "first", canary)
			text := server.Dump()
			if _, err := r.Rotate(context.WithoutCancel(t.Context())); err != nil {
				t.Fatal(err)
			}
			return text, r
		},
		"from before there were keys": func(t *testing.T, server servers, keys []secretkey.Key) (string, *replica) {
			newReplica(t, server, nil).commit(t, "first", canary)
			text := server.Dump()
			r := newReplica(t, server, keys)
			return text, r
		},
		"and another data key of the same id": func(t *testing.T, server servers, keys []secretkey.Key) (string, *replica) {
			r := newReplica(t, server, keys)
			r.commit(t, "first", canary)
			text := server.Dump()
			if _, err := r.Rotate(context.WithoutCancel(t.Context())); err != nil {
				t.Fatal(err)
			}
			server.Restore(text)
			other := newReplica(t, server, keys)
			if _, err := other.Rotate(context.WithoutCancel(t.Context())); err != nil {
				t.Fatal(err)
			}
			if _, _, err := r.Load(t.Context()); err != nil {
				t.Errorf("what another one has encrypted can't be read: %v", err)
			}
			return server.Dump(), r
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, keys := testserver.NewPostgreSQL(t), newKeys(t)
			text, running := backup(t, server, keys)
			server.Restore(text)
			running.commit(t, "second", secondCanary)
			own(t, running.Store)
			if got := secretsOf(t, server, keys); got["first"] != canary || got["second"] != secondCanary {
				t.Errorf("%q", got)
			}
			own(t, newReplica(t, server, keys).Store)
		})
	}
}

// content is a dump without what pg_dump draws anew each time.
func content(server *testserver.PostgreSQL) string {
	lines := strings.Split(server.Dump(), "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, `\restrict`) || strings.HasPrefix(l, `\unrestrict`)
	}), "\n")
}

// TestControlPlanesWithEitherKey: while control planes are started one by one with the next key, those that have the
// one before alone go on, and one that has neither says so and changes nothing.
func TestControlPlanesWithEitherKey(t *testing.T) {
	server, before, next := testserver.NewPostgreSQL(t), newKeys(t), newKeys(t)
	old := newReplica(t, server, before)
	old.commit(t, "first", canary)
	both := newReplica(t, server, append(slices.Clone(next), before...))
	old.commit(t, "second", secondCanary)
	own(t, old.Store)
	both.head, both.c = old.head, old.c
	both.commit(t, "third", canary)
	text := content(server)
	wrong, err := OpenSealed(t.Context(), server.URL, newKeys(t), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	var missing *seal.WrappedError
	if _, _, err := wrong.Load(t.Context()); !errors.As(err, &missing) || missing.By != next[0].ID() {
		t.Errorf("with a lost key: %v", err)
	}
	if _, err := wrong.Rotate(t.Context()); !errors.As(err, &missing) {
		t.Errorf("with a lost key all was encrypted anew: %v", err)
	}
	if content(server) != text {
		t.Error("with a lost key something was written")
	}
	want := map[string]string{"first": canary, "second": secondCanary, "third": canary}
	if got := secretsOf(t, server, next); !maps.Equal(got, want) {
		t.Errorf("with the next key alone: %q", got)
	}
}

// TestKnownDataKeysAreWrappedAnew: a data key that a control plane with the next key has met in a commit, where nothing
// is wrapped, is wrapped by the next key all the same when data keys are read to be.
func TestKnownDataKeysAreWrappedAnew(t *testing.T) {
	server, before, next := testserver.NewPostgreSQL(t), newKeys(t), newKeys(t)
	old := newReplica(t, server, before)
	both := newReplica(t, server, append(slices.Clone(next), before...))
	old.commit(t, "first", canary)
	if _, err := old.Rotate(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	both.head, both.c = old.head, old.c
	both.commit(t, "second", secondCanary)
	if err := both.keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"first": canary, "second": secondCanary}
	if got := secretsOf(t, server, next); !maps.Equal(got, want) {
		t.Errorf("with the next key alone: %q", got)
	}
}
