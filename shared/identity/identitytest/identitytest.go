// Package identitytest makes files of certificates for tests of servers that want some.
package identitytest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"path/filepath"
	"testing"

	"gateway.internal/shared/certtest"
)

// Authority issues certificates.
type Authority struct {
	// File has its certificate in PEM.
	File string

	t    testing.TB
	dir  string
	cert *certtest.Certificate
}

// NewAuthority makes an authority whose files are in a folder.
func NewAuthority(t testing.TB, dir, name string) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: dir, File: filepath.Join(dir, name+".pem")}
	a.cert = certtest.New(t, nil, x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
	})
	a.cert.Write(t, a.File, filepath.Join(dir, name+"-key.pem"))
	return a
}

// Issue makes a certificate for servers and clients at these addresses or DNS names, the first of which is its common
// name too, and returns its files.
func (a *Authority) Issue(names ...string) (certificate, key string) {
	a.t.Helper()
	certificate, key = filepath.Join(a.dir, names[0]+".crt"), filepath.Join(a.dir, names[0]+".key")
	a.cert.Issue(a.t, names...).Write(a.t, certificate, key)
	return certificate, key
}
