// Package certtest makes certificates for tests: authorities, and certificates that they or their own keys have signed.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certificate is a certificate with its key, an ECDSA one on P-256.
type Certificate struct {
	*x509.Certificate
	Key *ecdsa.PrivateKey
	// CertPEM and KeyPEM are both of them in PEM, the key as PKCS #8.
	CertPEM, KeyPEM string
}

// New makes a certificate by an authority; nil: one that signs itself. Where the template says nothing, it is valid for
// an hour around now, with a serial number of its own.
func New(t testing.TB, by *Certificate, template x509.Certificate) *Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.SerialNumber == nil {
		if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64)); err != nil {
			t.Fatal(err)
		}
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := &template, key
	if by != nil {
		parent, signer = by.Certificate, by.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return &Certificate{cert, key, block("CERTIFICATE", der), block("PRIVATE KEY", secret)}
}

// For makes a certificate for names and addresses that signs itself.
func For(t testing.TB, names ...string) *Certificate {
	t.Helper()
	return New(t, nil, leaf(names))
}

// Authority makes an authority.
func Authority(t testing.TB) *Certificate {
	t.Helper()
	return New(t, nil, x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	})
}

// Issue has an authority make a certificate for names and addresses, for servers and for clients.
func (c *Certificate) Issue(t testing.TB, names ...string) *Certificate {
	t.Helper()
	return New(t, c, leaf(names))
}

// leaf is the template of a certificate whose subject is the first of its names, or "test".
func leaf(names []string) x509.Certificate {
	template := x509.Certificate{
		Subject: pkix.Name{CommonName: "test"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for i, name := range names {
		if i == 0 {
			template.Subject.CommonName = name
		}
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return template
}

// Pool returns a pool that trusts the certificate.
func (c *Certificate) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.Certificate)
	return pool
}

// TLS returns the certificate as servers and clients show it.
func (c *Certificate) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: c.Key, Leaf: c.Certificate}
}

// Write writes the certificate and its key into files.
func (c *Certificate) Write(t testing.TB, certFile, keyFile string) {
	t.Helper()
	err := errors.Join(os.WriteFile(certFile, []byte(c.CertPEM), 0o600), os.WriteFile(keyFile, []byte(c.KeyPEM), 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

// Files writes the certificate and its key into files of a temporary folder.
func (c *Certificate) Files(t testing.TB) (certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	c.Write(t, certFile, keyFile)
	return certFile, keyFile
}
