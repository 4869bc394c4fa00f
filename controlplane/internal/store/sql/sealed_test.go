package sql

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/testserver"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/secretkey"
)

const (
	canary       = "canary-9b1f6e0c-of-a-file"
	secondCanary = "canary-77d0c1aa-of-a-file"
	ownCanary    = "canary-51e00f3d-of-the-control-plane"
)

func newKeys(t *testing.T) []secretkey.Key {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := secretkey.Write(file); err != nil {
		t.Fatal(err)
	}
	keys, err := secretkey.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// withSecret commits a route whose secret comes from the environment of whoever applied it.
func withSecret(t *testing.T, s *Store, secret string) {
	t.Helper()
	head, c, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	route := &configv1.Route{
		Name: "r", Path: "/r", Environment: map[string]string{"direct_response.body": "${env:TOKEN}"},
		DirectResponse: &configv1.DirectResponse{Body: secret},
	}
	plan, err := c.Plan([]config.Edit{{Kind: config.Route, Put: route}},
		config.PlanOptions{Now: time.Now(), NewID: uuid.NewString})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), head, func([]store.Revision) (*store.Draft, error) {
		return &store.Draft{Hash: plan.Config.Hash(), Changes: plan.Changes}, nil
	}); err != nil {
		t.Fatal(err)
	}
}

func own(t *testing.T, s *Store) {
	t.Helper()
	got, err := s.Secret(t.Context(), "own", func() ([]byte, error) { return []byte(ownCanary), nil })
	if err != nil || string(got) != ownCanary {
		t.Fatalf("%q, %v", got, err)
	}
}

// onDisk returns which of the secrets the files of an embedded store have, after its write-ahead log was moved into it.
func onDisk(t *testing.T, s *Store, path string) []string {
	t.Helper()
	if _, err := s.db.ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, c := range []string{canary, secondCanary, ownCanary} {
		if bytes.Contains(raw, []byte(c)) {
			found = append(found, c)
		}
	}
	return found
}

func openSealed(t *testing.T, path string, keys []secretkey.Key) *Store {
	t.Helper()
	s, err := OpenSealed(t.Context(), "embedded:"+path, keys, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func secretOf(t *testing.T, s *Store) string {
	t.Helper()
	_, c, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := c.ByName(config.Route, "r")
	if e == nil {
		t.Fatal("the route is not there")
	}
	return e.Message.(*configv1.Route).GetDirectResponse().GetBody()
}

// TestSecretsAreSealed follows secrets into the file of a store: now, in the history, and those of the control plane.
func TestSecretsAreSealed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.db")
	plain := openSealed(t, path, nil)
	withSecret(t, plain, canary)
	own(t, plain)
	if got := onDisk(t, plain, path); len(got) != 2 {
		t.Fatalf("the store without keys has %v: this test sees nothing", got)
	}
	plain.Close()

	keys := newKeys(t)
	s := openSealed(t, path, keys)
	if got := secretOf(t, s); got != canary {
		t.Fatalf("what was not encrypted is read as %q", got)
	}
	withSecret(t, s, secondCanary)
	if got := onDisk(t, s, path); strings.Join(got, " ") != canary+" "+ownCanary {
		t.Errorf("after a change the store has %v", got)
	}
	done, err := s.Rotate(t.Context())
	if err != nil || done.DataKey != 2 || done.Rows == 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	if got := onDisk(t, s, path); len(got) != 0 {
		t.Errorf("after all was encrypted the store has %v", got)
	}
	if again, err := s.Rotate(t.Context()); err != nil || again.DataKey != 3 || again.Rows != done.Rows {
		t.Errorf("once more: %+v, %v", again, err)
	}
	own(t, s)
	if got := secretOf(t, s); got != secondCanary {
		t.Errorf("%q", got)
	}
	r, err := s.Revision(t.Context(), 2)
	if err != nil || r.Changes[0].Before.Message.(*configv1.Route).GetDirectResponse().GetBody() != canary {
		t.Errorf("%v", err)
	}
	s.Close()

	// Another key goes on where the one before is there too, once.
	next := newKeys(t)
	s = openSealed(t, path, append(append([]secretkey.Key{}, next...), keys...))
	own(t, s)
	s.Close()
	s = openSealed(t, path, next)
	if got := secretOf(t, s); got != secondCanary {
		t.Errorf("%q", got)
	}
	s.Close()
	for name, wrong := range map[string][]secretkey.Key{"none": nil, "the one before": keys} {
		_, err := OpenSealed(t.Context(), "embedded:"+path, wrong, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), next[0].ID()) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("with the key %s: %v", name, err)
		}
	}
}

// TestPurgeOfSealed: secrets go out of a history that is encrypted as out of another one.
func TestPurgeOfSealed(t *testing.T) {
	s := openSealed(t, filepath.Join(t.TempDir(), "gateway.db"), newKeys(t))
	withSecret(t, s, canary)
	withSecret(t, s, secondCanary)
	got, err := s.PurgeSecrets(t.Context(), false)
	if err != nil || got.Values != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	r, err := s.Revision(t.Context(), 1)
	if err != nil || r.Changes[0].After.Message.(*configv1.Route).GetDirectResponse().GetBody() != "${env:TOKEN}" {
		t.Errorf("%v", err)
	}
	if got := secretOf(t, s); got != secondCanary {
		t.Errorf("%q", got)
	}
}

// TestAnotherRotates: one control plane goes on while another one makes a data key.
func TestAnotherRotates(t *testing.T) {
	server, keys := testserver.NewPostgreSQL(t), newKeys(t)
	open := func() *Store {
		s, err := OpenSealed(t.Context(), server.URL, keys, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	one, other := open(), open()
	withSecret(t, one, canary)
	if _, err := other.Rotate(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if one.seal.Newest() == other.seal.Newest() {
		t.Fatal("it knows the key already: this test sees nothing")
	}
	if got := secretOf(t, one); got != canary {
		t.Errorf("%q", got)
	}
	withSecret(t, one, secondCanary)
	if got := secretOf(t, other); got != secondCanary || one.seal.Newest() != other.seal.Newest() {
		t.Errorf("%q", got)
	}
}
