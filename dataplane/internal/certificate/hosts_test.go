package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"strings"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
	"gateway.internal/shared/hostname"
	"gateway.internal/shared/hostname/hostnametest"
)

// TestHosts runs the hosts that routes are tried with through the choice by SNI and what is asked of clients, for
// certificates that are there and for ones that ACME has yet to obtain.
func TestHosts(t *testing.T) {
	cert, key := inPEM(t, pair(t))
	for _, c := range hostnametest.Cases() {
		for _, acme := range []bool{false, true} {
			// A certificate of any other host: only what is asked of clients is looked at.
			m := &configv1.Certificate{Id: "1", Name: "c", Hosts: []string{hostname.Normal(c.Pattern)}, ClientAuth: &configv1.ClientAuth{Mode: "required", CaPem: cert}}
			if acme {
				m.Acme = &configv1.ACME{}
			} else {
				m.CertPem, m.KeyPem = cert, key
			}
			plan, err := config.Empty().With([]config.Change{{Kind: config.Certificate, After: configtest.Entry(t, m)}})
			if err != nil {
				t.Fatal(err)
			}
			s, problem := Compile(plan, NewTickets(nil), nil)
			if problem != nil {
				t.Fatal(problem)
			}
			if got := s.Policy(c.Host).Required; got != c.Matches {
				t.Errorf("a certificate for %q, by ACME: %v, asks clients of %q for one: %v", c.Pattern, acme, c.Host, got)
			}
			name := c.Host // clients ask for a name without port and brackets
			if host, _, err := net.SplitHostPort(name); err == nil {
				name = host
			}
			name = strings.Trim(name, "[]")
			if _, policy := s.Choose(&tls.ClientHelloInfo{ServerName: name}); policy.Required != c.Matches {
				t.Errorf("a certificate for %q, by ACME: %v, is shown to who asks for %q: %v", c.Pattern, acme, name, policy.Required)
			}
		}
	}
}

func inPEM(t *testing.T, pair tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
