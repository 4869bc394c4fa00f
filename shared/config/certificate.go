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

	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
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
				return nil, fmt.Errorf("does not parse: %s", strings.TrimPrefix(err.Error(), "x509: "))
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
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("has a certificate, number %d, that does not parse: %s", n, strings.TrimPrefix(err.Error(), "x509: "))
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
	leaf, err := leafOf(m.GetCertPem())
	if err != nil {
		return // validation says so
	}
	m.NotAfter = timestamppb.New(leaf.NotAfter)
	if len(m.GetHosts()) == 0 {
		m.Hosts = leaf.DNSNames
		for _, ip := range leaf.IPAddresses {
			m.Hosts = append(m.Hosts, ip.String())
		}
	}
	for i, h := range m.Hosts {
		m.Hosts[i] = strings.ToLower(strings.TrimSuffix(h, "."))
	}
}

func (c *checker) certificate(m *configv1.Certificate) {
	leaf, err := leafOf(m.GetCertPem())
	if err != nil {
		c.fail("cert_pem", "", "%s", err)
		return
	}
	switch {
	case m.GetKeyPem() == "":
		c.fail("key_pem", "", "is required for a new certificate")
	default:
		if _, err := tls.X509KeyPair([]byte(m.GetCertPem()), []byte(m.GetKeyPem())); err != nil {
			c.fail("key_pem", "", "does not go with cert_pem: %s", strings.TrimPrefix(err.Error(), "tls: "))
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
	for i, h := range m.GetHosts() {
		name := h
		if rest, wildcard := strings.CutPrefix(h, "*."); wildcard {
			name = "any." + rest
		}
		if !ValidHost(name) {
			c.fail(fmt.Sprintf("hosts[%d]", i), h, `has to be a host name, an IP address or "*.example.com"`)
		} else if leaf.VerifyHostname(name) != nil {
			c.fail(fmt.Sprintf("hosts[%d]", i), h, "is not covered by the certificate, which is for %s", strings.Join(leaf.DNSNames, ", "))
		}
	}
}
