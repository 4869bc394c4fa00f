package acme

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/store/sql"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const directory = "https://acme.example/dir"

// fleet is a double of the nodes.
type fleet struct {
	mu    sync.Mutex
	nodes []*adminv1.Node
}

func (f *fleet) Nodes() []*adminv1.Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.nodes)
}

func (f *fleet) set(nodes ...*adminv1.Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes = nodes
}

func node(id string, revision uint32) *adminv1.Node {
	return &adminv1.Node{Id: id, Connected: true, Revision: revision}
}

// keeper returns one on a store of its own, with a catalog that follows it.
func keeper(t *testing.T, nodes *fleet) *Keeper {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	kept, err := sql.Open(t.Context(), "embedded:"+filepath.Join(t.TempDir(), "gateway.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	model := catalog.New(kept, log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	loaded := model.Changed()
	go func() {
		defer close(done)
		_ = model.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = kept.Close()
	})
	<-loaded
	k := New(Settings{DirectoryURL: directory}, model, kept, nodes, log, prometheus.NewRegistry())
	k.settle = 0
	return k
}

func (k *Keeper) apply(t *testing.T, edits ...config.Edit) {
	t.Helper()
	if _, err := k.commit(t.Context(), "", func(*catalog.Version) ([]config.Edit, error) { return edits, nil }); err != nil {
		t.Fatal(err)
	}
}

func put(m config.Message) config.Edit { return config.Edit{Kind: config.KindOfMessage(m), Put: m} }

func (k *Keeper) certificate(name string) *configv1.Certificate {
	return k.catalog.Current().Config.ByName(config.Certificate, name).Message.(*configv1.Certificate)
}

// issue makes a certificate for hosts that lasts as long as is said.
func issue(t *testing.T, keyType string, lifetime time.Duration, hosts ...string) (chain []byte, key crypto.Signer, leaf *x509.Certificate) {
	t.Helper()
	signer, err := newKey(keyType)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), DNSNames: hosts, NotBefore: now, NotAfter: now.Add(lifetime)}
	der, err := x509.CreateCertificate(nil, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ = x509.ParseCertificate(der)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), signer, leaf
}

func TestMissing(t *testing.T) {
	_, _, leaf := issue(t, "ecdsa-p256", time.Hour, "a.example", "b.example")
	base := &configv1.Certificate{Hosts: []string{"a.example", "b.example"}, Acme: &configv1.ACME{}, Obtained: &configv1.Obtained{DirectoryUrl: directory}}
	for _, c := range []struct {
		name   string
		change func(m *configv1.Certificate)
		want   string // a part of the reason; empty: nothing is missing
	}{
		{"all is well", func(*configv1.Certificate) {}, ""},
		{"by its own name", func(m *configv1.Certificate) { m.Acme.KeyType = "ecdsa-p256" }, ""},
		{"given by hand", func(m *configv1.Certificate) { m.Obtained = nil }, "not obtained by ACME"},
		{"another directory", func(m *configv1.Certificate) { m.Obtained.DirectoryUrl = "x" }, "another directory"},
		{"another key", func(m *configv1.Certificate) { m.Acme.KeyType = "rsa-2048" }, "type of key"},
		{"one more host", func(m *configv1.Certificate) { m.Hosts = append(m.Hosts, "c.example") }, "c.example"},
		{"one host less", func(m *configv1.Certificate) { m.Hosts = m.Hosts[:1] }, "not wanted any more"},
	} {
		m := proto.CloneOf(base)
		c.change(m)
		if got := missing(m, leaf, directory); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	if got := missing(base, nil, directory); got != "there is none yet" {
		t.Errorf("without a certificate: %q", got)
	}
	_, _, rsa := issue(t, "rsa-2048", time.Hour, "a.example")
	if got := keyType(rsa); got != "rsa-2048" {
		t.Errorf("key type %q", got)
	}
}

func TestRenewAt(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	leaf := &x509.Certificate{NotBefore: start, NotAfter: start.Add(90 * 24 * time.Hour)}
	window := func(selected time.Time) (info acme.RenewalInfo) {
		info.SuggestedWindow.Start, info.SuggestedWindow.End, info.SelectedTime = selected.Add(-time.Hour), selected.Add(time.Hour), selected
		return info
	}
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		info acme.RenewalInfo
		want time.Time
	}{
		"nothing is suggested":       {acme.RenewalInfo{}, start.Add(60 * day)},
		"earlier":                    {window(start.Add(40 * day)), start.Add(40 * day)},
		"later":                      {window(start.Add(75 * day)), start.Add(75 * day)},
		"too late":                   {window(start.Add(89 * day)), start.Add(81 * day)},
		"after the end":              {window(start.Add(900 * day)), start.Add(81 * day)},
		"before it was issued":       {window(start.Add(-day)), start.Add(time.Hour)},
		"at once, being compromised": {window(start.Add(10 * day)), start.Add(10 * day)},
	} {
		if got := renewAt(leaf, start, c.info); !got.Equal(c.want) {
			t.Errorf("%s: %s, not %s", name, got, c.want)
		}
	}
}

func TestBackOff(t *testing.T) {
	for failures, want := range map[int]time.Duration{1: time.Minute, 2: 3 * time.Minute, 3: 9 * time.Minute, 5: 81 * time.Minute, 7: 6 * time.Hour, 1000: 6 * time.Hour} {
		if got := backOff(failures); got < want*9/10 || got > want*11/10 {
			t.Errorf("after %d: %s, not about %s", failures, got, want)
		}
	}
}

func TestChallenges(t *testing.T) {
	offered := func(kind, token string) acme.Authorization {
		return acme.Authorization{Identifier: acme.Identifier{Type: "dns", Value: "a.example"}, Challenges: []acme.Challenge{{Type: "dns-01", Token: "x"}, {Type: kind, Token: token, KeyAuthorization: token + ".k"}}}
	}
	for name, authz := range map[string]acme.Authorization{
		"no http-01": offered("tls-alpn-01", "x"), "a path": offered("http-01", "../admin"), "a parameter": offered("http-01", "{x}"), "nothing": offered("http-01", ""),
		"too long": offered("http-01", strings.Repeat("x", 257)),
	} {
		if _, err := http01(authz); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	ch, err := http01(offered("http-01", "AbC-_9"))
	if err != nil {
		t.Fatal(err)
	}
	k := keeper(t, &fleet{})
	for _, host := range []string{"a.example", "192.0.2.1", "2001:db8::1"} {
		r := challengeRoute("shop", host, ch)
		if !config.IsTransient(r) || r.GetPath() != "/.well-known/acme-challenge/AbC-_9" || r.GetDirectResponse().GetBody() != "AbC-_9.k" {
			t.Errorf("%s: %v", host, r)
		}
		k.apply(t, put(r)) // it is valid
	}
	mine := &configv1.Route{Name: "mine", Path: "/.well-known/acme-challenge/mine", DirectResponse: &configv1.DirectResponse{Body: "x"}}
	k.apply(t, put(mine))
	if err := k.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := k.catalog.Current().Config; c.Len(config.Route) != 1 || c.ByName(config.Route, "mine") == nil {
		t.Errorf("%d routes are left", c.Len(config.Route))
	}
}

func TestAwaitNodes(t *testing.T) {
	refused := node("refused", 6)
	refused.LastRejection = &adminv1.Rejection{Revision: 7}
	gone := &adminv1.Node{Id: "gone", Revision: 1}
	synctest.Test(t, func(t *testing.T) {
		nodes := &fleet{}
		k := &Keeper{nodes: nodes, log: slog.New(slog.DiscardHandler), settle: time.Second}
		wait := func(then ...*adminv1.Node) (time.Duration, error) {
			start := time.Now()
			time.AfterFunc(5*time.Second, func() { nodes.set(then...) })
			err := k.awaitNodes(t.Context(), 7)
			return time.Since(start), err
		}
		nodes.set(node("a", 7), node("b", 6), refused, gone)
		if d, err := wait(node("a", 7), node("b", 8), refused, gone); err != nil || d < 6*time.Second || d > 7*time.Second {
			t.Errorf("a node that follows: %s, %v", d, err)
		}
		nodes.set(node("a", 7), node("b", 6))
		if d, err := wait(node("a", 7), node("b", 6)); err != nil || d < nodesTimeout || d > nodesTimeout+time.Second {
			t.Errorf("a node that does not follow: %s, %v", d, err)
		}
		nodes.set(gone)
		if d, err := wait(gone); err == nil || d < nodesTimeout {
			t.Errorf("no node: %s, %v", d, err)
		}
		nodes.set()
		if d, err := wait(node("late", 7)); err != nil || d < 5*time.Second || d > 7*time.Second {
			t.Errorf("a node that comes: %s, %v", d, err)
		}
	})
}

func TestKeep(t *testing.T) {
	k := keeper(t, &fleet{})
	wish := &configv1.Certificate{Name: "shop", Hosts: []string{"a.example"}, Acme: &configv1.ACME{}}
	challenge := challengeRoute("shop", "a.example", acme.Challenge{Token: "t", KeyAuthorization: "t.k"})
	k.apply(t, put(wish), put(challenge))
	ordered := k.certificate("shop")
	chain, key, leaf := issue(t, "ecdsa-p256", time.Hour, "a.example")
	other, _ := newKey("ecdsa-p256")
	if err := k.keep(t.Context(), ordered, chain, other, []*configv1.Route{challenge}); err == nil {
		t.Error("a certificate for another key is kept")
	}
	labelled := proto.CloneOf(ordered)
	labelled.Labels = map[string]string{"x": "y"} // a change that has nothing to do with the order
	k.apply(t, put(labelled))
	if err := k.keep(t.Context(), ordered, chain, key, []*configv1.Route{challenge}); err != nil {
		t.Fatal(err)
	}
	m := k.certificate("shop")
	if !m.GetNotAfter().AsTime().Equal(leaf.NotAfter) || m.GetObtained().GetDirectoryUrl() != directory || m.GetLabels()["x"] != "y" || k.catalog.Current().Config.Len(config.Route) != 0 {
		t.Errorf("kept %v", m)
	}
	if reason := missing(m, leafOf(m.GetCertPem()), directory); reason != "" {
		t.Errorf("and now %s", reason)
	}

	changed := proto.CloneOf(wish)
	changed.Hosts = append(changed.Hosts, "b.example")
	k.apply(t, put(changed))
	if err := k.keep(t.Context(), m, chain, key, nil); !errors.Is(err, errChanged) {
		t.Errorf("after another wish: %v", err)
	}
	k.apply(t, config.Edit{Kind: config.Certificate, Delete: "shop"})
	if err := k.keep(t.Context(), m, chain, key, nil); !errors.Is(err, errChanged) {
		t.Errorf("after it was deleted: %v", err)
	}
}

func TestAccountKeyIsSharedAndKept(t *testing.T) {
	k := keeper(t, &fleet{})
	first, err := k.store.Secret(t.Context(), "acme account "+directory, newAccountKey)
	if err != nil {
		t.Fatal(err)
	}
	again, err := k.store.Secret(t.Context(), "acme account "+directory, newAccountKey)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("another key: %v", err)
	}
}

func TestFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":                        "",
		"--acme":                  "--acme-agree-tos",
		"--acme --acme-agree-tos": "keeper",
		"--acme --acme-agree-tos --acme-directory http://x":      "https URL",
		"--acme --acme-agree-tos --acme-contact nobody":          "mail address",
		"--acme --acme-agree-tos --acme-contact ops@a.example":   "keeper",
		"--acme --acme-agree-tos --acme-ca-file /does/not/exist": "--acme-ca-file",
		"--acme --acme-agree-tos --acme-ca-file flags.go":        "no certificate",
	} {
		var f Flags
		set := pflag.NewFlagSet("x", pflag.ContinueOnError)
		f.Bind(set)
		if err := set.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		k, err := f.Keeper(nil, nil, nil, nil, prometheus.NewRegistry())
		got := ""
		switch {
		case err != nil:
			got = err.Error()
		case k != nil:
			got = "keeper"
		}
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q", args, got)
		}
	}
}
