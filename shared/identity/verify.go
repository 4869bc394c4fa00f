package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// Errors of VerifyNode that callers tell apart, with errors.Is.
var (
	// ErrNoCertificate is a peer that showed none.
	ErrNoCertificate = errors.New("no certificate was shown")
	// ErrAuthority is a certificate of another authority.
	ErrAuthority = errors.New("the certificate is not of an authority that is trusted here")
	// ErrExpired is a certificate whose time is over, or has not come.
	ErrExpired = errors.New("the certificate is not valid now")
)

// chain verifies certificates as a peer showed them, its own first.
func chain(shown []*x509.Certificate, roots *x509.CertPool, now time.Time, use x509.ExtKeyUsage) error {
	if len(shown) == 0 {
		return ErrNoCertificate
	}
	between := x509.NewCertPool()
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	_, err := shown[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{use}})
	if err == nil {
		return nil
	}
	if leaf := shown[0]; now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return fmt.Errorf("%w: it is valid from %s to %s, and now is %s", ErrExpired, leaf.NotBefore.Format(time.RFC3339),
			leaf.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return fmt.Errorf("%w: %s", ErrAuthority, err.Error())
}

// VerifyNode returns the name in the certificate that a node has shown, which has to be of one of the authorities and
// for TLS clients.
func VerifyNode(shown []*x509.Certificate, roots *x509.CertPool, now time.Time) (Name, error) {
	if err := chain(shown, roots, now, x509.ExtKeyUsageClientAuth); err != nil {
		return Name{}, err
	}
	return NameIn(shown[0])
}

// VerifyControlPlane returns what is wrong with the certificate that a control plane has shown, which has to be of one
// of the authorities and to have a name: a DNS name or an address, or a URI when it has "://" in it.
func VerifyControlPlane(shown []*x509.Certificate, roots *x509.CertPool, name string, now time.Time) error {
	if err := chain(shown, roots, now, x509.ExtKeyUsageServerAuth); err != nil {
		return fmt.Errorf("the control plane's certificate: %w", err)
	}
	if u, err := url.Parse(name); err == nil && u.Scheme != "" && u.Host != "" {
		if !slices.ContainsFunc(shown[0].URIs, func(has *url.URL) bool { return has.String() == u.String() }) {
			return fmt.Errorf("the control plane's certificate has not the URI %s, but %v", name, shown[0].URIs)
		}
		return nil
	}
	if err := shown[0].VerifyHostname(name); err != nil {
		return fmt.Errorf("the control plane's certificate: %w", err)
	}
	return nil
}

// VerifyPinned returns the authority with a pin, if the control plane has shown it and its certificate is of it.
func VerifyPinned(shown []*x509.Certificate, pin [32]byte, now time.Time) (*x509.Certificate, error) {
	for _, c := range shown {
		if PinOf(c) != pin || !c.IsCA {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(c)
		return c, VerifyControlPlane(shown, roots, ControlPlaneURI().String(), now)
	}
	return nil, errors.New("the control plane has not the authority that the join token pins: it is another one, " +
		"or something between takes part in the connection")
}

// Client returns a configuration for connections to a control plane whose certificate verify accepts. certificate may
// be nil, and returns what is shown.
func Client(verify func(shown []*x509.Certificate) error, certificate *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		//nolint:gosec // VerifyConnection does it: names are URIs, and what is trusted may be a pin.
		InsecureSkipVerify: true,
		VerifyConnection:   func(s tls.ConnectionState) error { return verify(s.PeerCertificates) },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if certificate == nil {
				return &tls.Certificate{}, nil
			}
			return certificate, nil
		},
	}
}
