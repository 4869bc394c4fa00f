package acme

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/controlplane/testserver"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// logged is a log that tests can look into.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestAgainstPebble has a server that does not find its challenge at first, and then does: for names, addresses and all
// types of keys.
func TestAgainstPebble(t *testing.T) {
	nodes := &fleet{}
	nodes.set(node("n", 1<<30))
	k := keeper(t, nodes)
	var answers atomic.Bool
	// What a node would answer, with the newest configuration.
	standIn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for e := range k.catalog.Current().Config.All(config.Route) {
			if m := e.Message.(*configv1.Route); answers.Load() && m.GetPath() == r.URL.Path {
				_, _ = io.WriteString(w, m.GetDirectResponse().GetBody())
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer standIn.Close()
	server := testserver.NewPebble(t, standIn.Listener.Addr().(*net.TCPAddr).Port, map[string]time.Duration{"default": 90 * 24 * time.Hour})
	text, err := os.ReadFile(server.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	said := &logged{}
	k.settings.HTTP, k.settings.DirectoryURL, k.settings.Contact, k.log = &http.Client{Transport: transport}, server.Directory, "ops@a.example", slog.New(slog.NewTextHandler(said, nil))

	k.apply(t, put(&configv1.Certificate{Name: "shop", Hosts: []string{"a.example", "b.example"}, Acme: &configv1.ACME{}}))
	running := run(t, k)
	waittest.UntilNil(t, "a failure", func() error {
		if n := k.failuresOf("shop"); n != 1 {
			return fmt.Errorf("%d failures", n)
		}
		return nil
	})
	if got := said.String(); !strings.Contains(got, "validation of a.example") && !strings.Contains(got, "validation of b.example") || !strings.Contains(got, "next_attempt_in") {
		t.Errorf("the log does not say which host failed and when it goes on:\n%s", got)
	}
	if n := k.catalog.Current().Config.Len(config.Route); n != 0 {
		t.Errorf("%d challenges are left", n)
	}

	answers.Store(true)
	for _, c := range []struct{ keyType, host string }{{"ecdsa-p256", "c.example"}, {"ecdsa-p384", "127.0.0.1"}, {"rsa-2048", "d.example"}, {"rsa-4096", "d.example"}} {
		wish := &configv1.Certificate{Name: "shop", Hosts: []string{"a.example", c.host}, Acme: &configv1.ACME{KeyType: c.keyType, Profile: "default"}}
		k.apply(t, put(wish))
		waittest.UntilNil(t, c.keyType, func() error {
			m := k.certificate("shop")
			if reason := missing(m, leafOf(m.GetCertPem()), server.Directory); reason != "" {
				return fmt.Errorf("%s", reason)
			}
			return nil
		})
		if n := k.catalog.Current().Config.Len(config.Route); n != 0 {
			t.Errorf("%s: %d challenges are left", c.keyType, n)
		}
	}

	// The one who renews says what it replaces, and asks when to do so.
	m := k.certificate("shop")
	r := k.askRenewal(t.Context(), m, leafOf(m.GetCertPem()), renewal{})
	if at := time.Until(r.info.SelectedTime); !r.info.HasWindow() || at < 50*24*time.Hour || at > 70*24*time.Hour {
		t.Errorf("to be renewed in %s", at)
	}
	if again := k.askRenewal(t.Context(), m, leafOf(m.GetCertPem()), r); again != r {
		t.Error("the server is asked again before it wants to be")
	}
	stale := proto.CloneOf(m)
	if err := k.obtain(t.Context(), stale, leafOf(m.GetCertPem())); err != nil {
		t.Errorf("renewal: %v", err)
	}
	if again := k.certificate("shop"); again.GetCertPem() == m.GetCertPem() || again.GetKeyPem() == m.GetKeyPem() {
		t.Error("the renewed certificate is the old one, or has its key")
	}
	running.stop()
	if got := said.String(); strings.Contains(got, "PRIVATE") {
		t.Error("a key is logged")
	}
}
