package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// FuzzAuthorities reads any list of certificates. Nodes get all of those that are taken, or the list is refused here,
// before it is committed.
func FuzzAuthorities(f *testing.F) {
	cert, key := selfSigned(f, "a.example")
	for _, s := range []string{cert, cert + cert, cert + "text", key, "text\n" + cert, strings.Replace(cert, "CERTIFICATE-----\n", "CERTIFICATE-----\nA: b\n\n", 1), ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		if checkAuthorities(list) != nil {
			return
		}
		pool, want := x509.NewCertPool(), x509.NewCertPool()
		for block, rest := pem.Decode([]byte(list)); block != nil; block, rest = pem.Decode(rest) {
			one, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			want.AddCert(one)
		}
		if !pool.AppendCertsFromPEM([]byte(list)) || !pool.Equal(want) {
			t.Errorf("nodes take something else of %q", list)
		}
	})
}

// FuzzCertificate puts any certificate with its key. One that is taken can be served, for all of its hosts, and is
// taken again as it is kept.
func FuzzCertificate(f *testing.F) {
	cert, key := selfSigned(f, "a.example", "*.b.example")
	f.Add(cert, key, "")
	f.Add(cert+cert, key, "A.example.")
	f.Add(cert, key, "*.B.example")
	f.Add(key+cert, cert+key, "x.b.example")
	f.Add(cert, key, "other.example")
	f.Add(cert, "", "a.example")
	f.Fuzz(func(t *testing.T, certPEM, keyPEM, host string) {
		m := &configv1.Certificate{Name: "c", CertPem: certPEM, KeyPem: keyPEM}
		if host != "" {
			m.Hosts = []string{host}
		}
		c := keep(m)
		if c == nil {
			return
		}
		pair, err := tls.X509KeyPair([]byte(c.GetCertPem()), []byte(c.GetKeyPem()))
		if err != nil {
			t.Fatalf("nodes can't load it: %v", err)
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil || len(c.GetHosts()) > 0 && !slices.ContainsFunc(c.GetHosts(), func(h string) bool { return Covers(leaf, h) }) {
			t.Errorf("hosts %q of a certificate for %q, %v", c.GetHosts(), leaf.DNSNames, err)
		}
		if keep(&configv1.Certificate{Name: c.GetName(), Hosts: c.GetHosts(), CertPem: c.GetCertPem(), KeyPem: c.GetKeyPem()}) == nil {
			t.Errorf("%v is not taken again", c)
		}
	})
}

// keep returns a certificate as it is kept; nil: it is refused.
func keep(m *configv1.Certificate) *configv1.Certificate {
	plan, err := Empty().Plan([]Edit{put(m)}, options())
	if err != nil {
		return nil
	}
	return plan.Config.ByName(Certificate, m.GetName()).Message.(*configv1.Certificate)
}
