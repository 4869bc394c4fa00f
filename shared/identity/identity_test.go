package identity

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/shared/certtest"
)

func TestNamesComeBack(t *testing.T) {
	ca := certtest.Authority(t)
	for _, n := range []Name{{ID: "n1"}, {ID: "n1", Group: "edge"}, {ID: "a/b", Group: "../c"}, {ID: ".."},
		{ID: "node", Group: "group"}, {ID: "köln%2F?#1", Group: "%"}} {
		cert := certtest.New(t, ca, x509.Certificate{URIs: []*url.URL{n.URI()},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		got, err := VerifyNode([]*x509.Certificate{cert.Certificate}, ca.Pool(), time.Now())
		n.Grouped = n.Group != ""
		if err != nil || got != n {
			t.Errorf("%v in %s: %v, %v", n, n.URI(), got, err)
		}
	}
}

func TestNamesOfOutsideAuthorities(t *testing.T) {
	uris := func(all ...string) (list []*url.URL) {
		for _, one := range all {
			u, err := url.Parse(one)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, u)
		}
		return list
	}
	for what, c := range map[string]struct {
		cert x509.Certificate
		want Name // without an id: it is refused
	}{
		"a SPIFFE id": {x509.Certificate{URIs: uris("spiffe://example.org/ns/prod/node/n1")}, Name{ID: "n1"}},
		"a SPIFFE id with a group": {x509.Certificate{URIs: uris("spiffe://example.org/group/edge/node/n1")},
			Name{ID: "n1", Group: "edge", Grouped: true}},
		"a SPIFFE id of something else": {x509.Certificate{URIs: uris("spiffe://example.org/sa/n1"),
			Subject: pkix.Name{CommonName: "n1"}}, Name{}},
		"two SPIFFE ids": {x509.Certificate{URIs: uris("spiffe://a/node/n1", "spiffe://a/node/n2")}, Name{}},
		"an empty id":    {x509.Certificate{URIs: uris("spiffe://a/node/")}, Name{}},
		"a query":        {x509.Certificate{URIs: uris("spiffe://a/node/n1?x")}, Name{}},
		"a common name": {x509.Certificate{Subject: pkix.Name{CommonName: "n1"}, DNSNames: []string{"x", "y"}},
			Name{ID: "n1"}},
		"a DNS name":         {x509.Certificate{DNSNames: []string{"n1.example.org"}}, Name{ID: "n1.example.org"}},
		"several DNS names":  {x509.Certificate{DNSNames: []string{"n1", "n2"}}, Name{}},
		"nothing":            {x509.Certificate{}, Name{}},
		"a name with spaces": {x509.Certificate{Subject: pkix.Name{CommonName: "node 1"}}, Name{}},
	} {
		got, err := NameIn(&c.cert)
		if got != c.want || (err == nil) != (c.want.ID != "") {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
}

func TestVerify(t *testing.T) {
	ca, other := certtest.Authority(t), certtest.Authority(t)
	with := func(by *certtest.Certificate, template x509.Certificate) []*x509.Certificate {
		return []*x509.Certificate{certtest.New(t, by, template).Certificate, by.Certificate}
	}
	node := x509.Certificate{URIs: []*url.URL{Name{ID: "n1"}.URI()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	control := x509.Certificate{URIs: []*url.URL{ControlPlaneURI()}, DNSNames: []string{"control.example.org"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	old := node
	old.NotBefore, old.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	for what, c := range map[string]struct {
		shown []*x509.Certificate
		want  error
	}{
		"its own":               {[]*x509.Certificate{certtest.New(t, ca, node).Certificate}, nil},
		"none":                  {nil, ErrNoCertificate},
		"of another authority":  {with(other, node), ErrAuthority},
		"by itself":             {[]*x509.Certificate{certtest.New(t, nil, node).Certificate}, ErrAuthority},
		"expired":               {[]*x509.Certificate{certtest.New(t, ca, old).Certificate}, ErrExpired},
		"a control plane's":     {[]*x509.Certificate{certtest.New(t, ca, control).Certificate}, ErrAuthority},
		"of a node that signed": {with(certtest.New(t, ca, node), node), ErrAuthority},
	} {
		if _, err := VerifyNode(c.shown, ca.Pool(), time.Now()); !errors.Is(err, c.want) {
			t.Errorf("a node's certificate, %s: %v", what, err)
		}
	}
	shown := with(ca, control)
	for name, fits := range map[string]bool{"control.example.org": true, "other.example.org": false, "127.0.0.1": false,
		"spiffe://gateway/control-plane": true, "spiffe://gateway/node/n1": false} {
		if err := VerifyControlPlane(shown, ca.Pool(), name, time.Now()); (err == nil) != fits {
			t.Errorf("a control plane as %s: %v", name, err)
		}
	}
	if _, err := VerifyPinned(shown, PinOf(ca.Certificate), time.Now()); err != nil {
		t.Error(err)
	}
	for what, c := range map[string]struct {
		shown []*x509.Certificate
		pin   [32]byte
	}{
		"another pin":                {shown, PinOf(other.Certificate)},
		"another's with the pin":     {with(other, control), PinOf(ca.Certificate)},
		"a node's":                   {with(ca, node), PinOf(ca.Certificate)},
		"without the authority":      {shown[:1], PinOf(ca.Certificate)},
		"a pin of the own one alone": {shown[:1], PinOf(shown[0])},
	} {
		if _, err := VerifyPinned(c.shown, c.pin, time.Now()); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

func TestTokens(t *testing.T) {
	made := Token{ID: "k3", Secret: [32]byte{1, 2, 3}, Pin: [32]byte{4}}
	if got, err := ParseToken(made.String()); err != nil || got != made {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := ParseToken("a-text-of-both-planes"); err != nil || got.Static != "a-text-of-both-planes" {
		t.Errorf("%v, %v", got, err)
	}
	text := made.String()
	cut := text[:len(text)-1]
	for _, wrong := range []string{"", "short", cut, text + "A", cut + "!", cut + "B",
		strings.ToUpper(text[5:]), tokenMark, tokenMark + "..", strings.Replace(text, ".k3.", "..", 1), text + ".x"} {
		got, err := ParseToken(wrong)
		if err == nil && got.Static == "" || err != nil && len(wrong) > 20 && strings.Contains(err.Error(), wrong[5:]) {
			t.Errorf("%q: %v, %v", wrong, got, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(Token{ID: "k3", Secret: [32]byte{1}, Pin: [32]byte{2}}.String())
	f.Add("gwj1.a.b.c")
	f.Fuzz(func(t *testing.T, text string) {
		if token, err := ParseToken(text); err == nil && token.String() != text {
			t.Errorf("%q becomes %q", text, token.String())
		}
	})
}

// TestProofs has both ends of a connection, and of another one that somebody in between has.
func TestProofs(t *testing.T) {
	ca := certtest.Authority(t)
	server := certtest.New(t, ca, x509.Certificate{URIs: []*url.URL{ControlPlaneURI()}})
	ends := func() (node, control tls.ConnectionState) {
		a, b := net.Pipe()
		c := tls.Client(a, Client(func([]*x509.Certificate) error { return nil }, nil))
		shown := tls.Certificate{Certificate: [][]byte{server.Raw}, PrivateKey: server.Key}
		s := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{shown},
			NextProtos: []string{"h2"}})
		done := make(chan error, 1)
		go func() { done <- s.Handshake() }()
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return c.ConnectionState(), s.ConnectionState()
	}
	key, err := NewProofKey("a-text-of-both-planes")
	if err != nil {
		t.Fatal(err)
	}
	another, err := NewProofKey("a-text-of-both-planes.")
	if err != nil {
		t.Fatal(err)
	}
	proofs := func(k ProofKey, s tls.ConnectionState) string {
		a, b, err := k.Proofs(&s)
		if err != nil || string(a) == string(b) {
			t.Fatal(a, b, err)
		}
		return string(a) + string(b)
	}
	node, control := ends()
	if proofs(key, node) != proofs(key, control) {
		t.Error("the ends of a connection have other proofs")
	}
	if proofs(key, node) == proofs(another, control) {
		t.Error("another token has the same proofs")
	}
	if _, elsewhere := ends(); proofs(key, node) == proofs(key, elsewhere) {
		t.Error("another connection has the same proofs")
	}
}

func write(t *testing.T, c *certtest.Certificate, dir string) {
	t.Helper()
	put(t, filepath.Join(dir, "cert.pem"), []byte(c.CertPEM))
	put(t, filepath.Join(dir, "key.pem"), []byte(c.KeyPEM))
}

func put(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	ca := certtest.Authority(t)
	dir := t.TempDir()
	files := Files{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	synctest.Test(t, func(t *testing.T) {
		first, second := certtest.New(t, ca, x509.Certificate{}), certtest.New(t, ca, x509.Certificate{})
		write(t, first, dir)
		var log strings.Builder
		r, err := NewReloader(files, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		shows := func(what string, want *certtest.Certificate) {
			t.Helper()
			time.Sleep(2 * lookInterval)
			if got := r.Current().Certificate.Certificate[0]; string(got) != string(want.Raw) {
				t.Errorf("%s: another certificate", what)
			}
		}
		shows("at first", first)
		key, err := os.ReadFile(files.Key)
		if err != nil {
			t.Fatal(err)
		}
		write(t, second, dir)
		fresh, err := os.ReadFile(files.Key)
		if err != nil {
			t.Fatal(err)
		}
		put(t, files.Key, key)
		shows("while the key is not there yet", first)
		shows("still", first)
		if n := strings.Count(log.String(), "can't be used"); n != 1 {
			t.Errorf("%d lines:\n%s", n, log.String())
		}
		put(t, files.Key, fresh)
		shows("with its key", second)
		if err := os.Remove(files.Certificate); err != nil {
			t.Fatal(err)
		}
		shows("after the file is gone", second)
	})
}

func TestFilesThatAreRefused(t *testing.T) {
	ca := certtest.Authority(t)
	dir := t.TempDir()
	one := certtest.New(t, ca, x509.Certificate{})
	write(t, one, dir)
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	empty := filepath.Join(dir, "empty.pem")
	put(t, empty, nil)
	for what, c := range map[string]struct {
		files Files
		names string
	}{
		"a key alone":                {Files{Key: key}, "both"},
		"a certificate alone":        {Files{Certificate: cert}, "both"},
		"no such file":               {Files{Certificate: cert + "x", Key: key}, cert + "x"},
		"a key as authorities":       {Files{Authorities: key}, key},
		"nothing as authorities":     {Files{Authorities: empty}, empty},
		"a certificate as a key":     {Files{Certificate: cert, Key: cert}, cert},
		"authorities that are there": {Files{Certificate: cert, Key: key, Authorities: cert}, ""},
	} {
		_, err := NewReloader(c.files, slog.New(slog.DiscardHandler))
		if (err == nil) != (c.names == "") || err != nil && !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestOldVersionsAreRefused: nothing below TLS 1.2 is spoken.
func TestOldVersionsAreRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, certtest.New(t, nil, x509.Certificate{}), dir)
	files := Files{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	r, err := NewReloader(files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for version, allowed := range map[uint16]bool{
		tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true,
	} {
		client, server := net.Pipe()
		go func() {
			_ = tls.Server(server, r.Server("h2")).Handshake()
			_ = server.Close()
		}()
		err := tls.Client(client, &tls.Config{
			InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version, NextProtos: []string{"h2"},
		}).Handshake()
		_ = client.Close()
		if (err == nil) != allowed {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}
