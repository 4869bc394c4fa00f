package stream

import (
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"gateway.internal/controlplane/internal/authority"
	"gateway.internal/controlplane/internal/store/sql"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/identity"
	"gateway.internal/shared/identity/identitytest"
	"gateway.internal/shared/waittest"
)

// TestAuthoritiesThatChange: a stream of a node ends soon after the authority of its certificate is taken out of
// --stream-client-ca, and one of a node whose authority stays does not.
func TestAuthoritiesThatChange(t *testing.T) {
	dir := t.TempDir()
	first, second := identitytest.NewAuthority(t, dir, "first"), identitytest.NewAuthority(t, dir, "second")
	bundle := filepath.Join(dir, "bundle.pem")
	write := func(all ...*identitytest.Authority) {
		t.Helper()
		var text []byte
		for _, a := range all {
			one, err := os.ReadFile(a.File)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, one...)
		}
		if err := os.WriteFile(bundle+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(bundle+".new", bundle); err != nil {
			t.Fatal(err)
		}
	}
	write(first, second)
	log := slog.New(slog.DiscardHandler)
	files, err := identity.NewReloader(identity.Files{Authorities: bundle}, log)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sql.Open(t.Context(), "embedded:"+filepath.Join(dir, "g.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	p := startPlaneWith(t, s, authority.Settings{NodeTTL: time.Hour, Outside: files})
	p.commit(route("a"))
	of := func(a *identitytest.Authority, id string) *tls.Certificate {
		t.Helper()
		pair, err := tls.LoadX509KeyPair(a.Issue(id))
		if err != nil {
			t.Fatal(err)
		}
		return &pair
	}
	gone, _, err := says(t, p, secure(of(first, "n1")), &streamv1.Hello{NodeId: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	stays, _, err := says(t, p, secure(of(second, "n2")), &streamv1.Hello{NodeId: "n2"})
	if err != nil {
		t.Fatal(err)
	}
	write(second)
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := gone.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	select {
	case err := <-ended:
		refused(t, "a node of an authority that is trusted no more", err, codes.Unauthenticated, "authority")
	case <-time.After(waittest.Limit):
		t.Fatal("the stream goes on")
	}
	waittest.Until(t, "the other node alone", func() bool {
		for _, n := range p.fleet.Nodes() {
			if n.GetConnected() != (n.GetId() == "n2") {
				return false
			}
		}
		return true
	})
	if err := stays.Context().Err(); err != nil {
		t.Errorf("a node whose authority is still trusted: %v", err)
	}
}
