package config

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/hostname"
	"gateway.internal/shared/reason"
)

// leafOf returns the first certificate of a chain in PEM.
func leafOf(chain string) (*x509.Certificate, error) {
	rest := []byte(chain)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("has no CERTIFICATE block in PEM")
		}
		if block.Type == "CERTIFICATE" {
			leaf, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("does not parse: %s", reason.Of(err))
			}
			return leaf, nil
		}
	}
}

// checkAuthorities says what is wrong with a list of certificates that others are verified by.
func checkAuthorities(list string) error {
	rest, n := []byte(list), 0
	for {
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		rest = after
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("has a %s block; only CERTIFICATE blocks belong there", block.Type)
		}
		n++
		if len(block.Headers) > 0 {
			return fmt.Errorf("has a certificate, number %d, with lines before its base64, which readers skip", n)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("has a certificate, number %d, that does not parse: %s", n, reason.Of(err))
		}
	}
	switch {
	case n == 0:
		return fmt.Errorf("has no CERTIFICATE block in PEM")
	case strings.TrimSpace(string(rest)) != "":
		return fmt.Errorf("has text after certificate %d that is no PEM block", n)
	}
	return nil
}

// fillCertificate sets what follows from the chain.
func fillCertificate(m *configv1.Certificate) {
	if leaf, err := leafOf(m.GetCertPem()); err == nil { // validation says what is wrong
		m.NotAfter = timestamppb.New(leaf.NotAfter)
		if len(m.GetHosts()) == 0 && m.GetAcme() == nil {
			m.Hosts = leaf.DNSNames
			for _, ip := range leaf.IPAddresses {
				m.Hosts = append(m.Hosts, ip.String())
			}
		}
	}
	for i, h := range m.Hosts {
		m.Hosts[i] = hostname.Normal(h)
	}
}

func (c *checker) certificate(m *configv1.Certificate) {
	c.oneOf("min_version", m.GetMinVersion(), "1.2", "1.3")
	c.clientAuth(m.GetClientAuth())
	byACME := m.GetAcme() != nil
	if byACME {
		c.acme(m)
		if m.GetCertPem() == "" && m.GetKeyPem() == "" {
			return // not obtained yet
		}
	}
	leaf, err := leafOf(m.GetCertPem())
	if err != nil {
		c.fail("cert_pem", "", "%s", err)
		return
	}
	switch {
	case m.GetKeyPem() == "" && c.leftOut:
	case m.GetKeyPem() == "":
		c.fail("key_pem", "", "is required for a new certificate")
	default:
		if _, err := tls.X509KeyPair([]byte(m.GetCertPem()), []byte(m.GetKeyPem())); err != nil {
			c.fail("key_pem", "", "does not go with cert_pem: %s", reason.Of(err))
		}
	}
	switch key := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			c.fail("cert_pem", "", "has an RSA key of %d bits; at least 2048 are required", key.N.BitLen())
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		c.fail("cert_pem", "", "has a key that is neither RSA, ECDSA nor Ed25519")
	}
	if byACME {
		return // hosts that were added are served once there is a certificate for them
	}
	for i, h := range m.GetHosts() {
		if _, err := hostname.Parse(h); err != nil {
			c.fail(fmt.Sprintf("hosts[%d]", i), h, "%s", err)
		} else if !Covers(leaf, h) {
			c.fail(fmt.Sprintf("hosts[%d]", i), h, "is not covered by the certificate, which is for %s", strings.Join(leaf.DNSNames, ", "))
		}
	}
}

func (c *checker) clientAuth(a *configv1.ClientAuth) {
	if a == nil {
		return
	}
	c.oneOf("client_auth.mode", a.GetMode(), "optional", "required")
	if a.GetMode() == "" {
		c.fail("client_auth.mode", "", `is required: "optional" or "required"`)
	}
	if err := checkAuthorities(a.GetCaPem()); err != nil {
		c.fail("client_auth.ca_pem", "", "%s", err)
	}
}

// checkServing finds certificates that can't be served together: two that are the default, or two for one host that ask
// different things of its clients, so that chance would decide.
func (p *planner) checkServing(next *Config, changes []Change, at map[location]string) {
	changed := map[string]bool{}
	for _, ch := range changes {
		if ch.Kind == Certificate && ch.After != nil {
			changed[ch.ID()] = true
		}
	}
	if len(changed) == 0 {
		return
	}
	var fallback *configv1.Certificate
	byHost := map[string]*configv1.Certificate{}
	see := func(m *configv1.Certificate) {
		where := at[location{Certificate, m.GetId()}]
		if m.GetDefault() && fallback != nil {
			p.problems.add(Certificate, m.GetName(), where, "default", "true", "can't be: certificate %q is the default", fallback.GetName())
		} else if m.GetDefault() {
			fallback = m
		}
		for i, h := range m.GetHosts() {
			other := byHost[h]
			if other == nil {
				byHost[h] = m
			} else if !SameHandshake(other, m) {
				p.problems.add(Certificate, m.GetName(), where, fmt.Sprintf("hosts[%d]", i), h, "is served by certificate %q too, with another min_version or client_auth: both have to ask the same of clients", other.GetName())
			}
		}
	}
	// What changed comes last, so that it gets the blame.
	for _, again := range []bool{false, true} {
		for _, e := range next.Sorted(Certificate) {
			if changed[e.ID()] == again {
				see(e.Message.(*configv1.Certificate))
			}
		}
	}
}

// SameHandshake reports whether two certificates ask the same of clients.
func SameHandshake(a, b *configv1.Certificate) bool {
	return orString(a.GetMinVersion(), "1.2") == orString(b.GetMinVersion(), "1.2") && proto.Equal(a.GetClientAuth(), b.GetClientAuth())
}

// soonEnds is how long before its end a certificate that is put is warned about.
const soonEnds = 14 * 24 * time.Hour

func (w *warner) certificate(m *configv1.Certificate) {
	if len(m.GetHosts()) == 0 {
		const sort = "certificates without hosts"
		w.say(sort, m, "hosts", "",
			"is empty, and the certificate names no host either: it can only be shown to services, by tls.certificate_id")
		if m.GetClientAuth() != nil && !m.GetDefault() {
			w.say(sort, m, "client_auth", "", "asks nobody for anything: the certificate has no hosts and is not the default")
		}
	}
	if m.GetAcme() != nil && m.GetCertPem() == "" {
		w.say("certificates that ACME has not obtained yet", m, "acme", "",
			"has obtained nothing yet: a control plane with --acme does so, and until then clients of these hosts are refused "+
				"or get another certificate that is for them")
	}
	w.periods(m, "cert_pem", m.GetCertPem())
	w.periods(m, "client_auth.ca_pem", m.GetClientAuth().GetCaPem())
}

// periods finds certificates of a list in PEM that are not valid yet, not any more, or not for long.
func (w *warner) periods(m Message, field, list string) {
	const sort = "certificates that are not valid now, or not for long"
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	for rest, n := []byte(list), 1; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			continue
		}
		which := ""
		if n > 1 {
			which = fmt.Sprintf(" (number %d, of %q)", n, c.Subject.CommonName)
		}
		switch {
		case c.NotBefore.After(w.now):
			w.say(sort, m, field, "",
				"is not valid yet: it begins at %s%s; until then whoever verifies it refuses it; "+
					"now it is %s", at(c.NotBefore), which, at(w.now))
		case !c.NotAfter.After(w.now):
			w.say(sort, m, field, "", "has ended, at %s%s: whoever verifies it refuses it", at(c.NotAfter), which)
		case c.NotAfter.Sub(w.now) < soonEnds:
			w.say(sort, m, field, "", "ends soon, at %s%s", at(c.NotAfter), which)
		}
	}
}
