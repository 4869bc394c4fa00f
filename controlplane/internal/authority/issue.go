package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"gateway.internal/shared/identity"
)

// maxSkew is how far a certificate's beginning is set back, for clocks that are behind; short-lived ones a tenth of
// their life.
const maxSkew = 5 * time.Minute

// controlPlaneTTL is how long the certificate of a control plane is valid.
const controlPlaneTTL = 7 * 24 * time.Hour

// certified is a certificate that control planes show.
type certified struct {
	certificate *tls.Certificate
	renewAt     time.Time
}

// Issued is a node's certificate.
type Issued struct {
	// Chain has it, and Authorities whom the node is to trust, in DER.
	Chain, Authorities [][]byte
	// NotAfter is when it expires.
	NotAfter time.Time
	// Serial is its number, in hexadecimal digits.
	Serial string
}

// Issue makes a node's certificate for the key of a PKCS #10 request.
func (a *Authority) Issue(ctx context.Context, name identity.Name, generation int64, request []byte) (*Issued, error) {
	is, err := a.await(ctx)
	if err != nil {
		return nil, err
	}
	key, err := KeyOf(request)
	if err != nil {
		return nil, err
	}
	cert, der, err := is.issue(a.set.NodeTTL, name.URI(), generation, x509.ExtKeyUsageClientAuth, key)
	if err != nil {
		return nil, err
	}
	return &Issued{Chain: [][]byte{der}, Authorities: [][]byte{is.cert.Raw}, NotAfter: cert.NotAfter,
		Serial: cert.SerialNumber.Text(16)}, nil
}

// KeyOf returns the key of a PKCS #10 request, which has to be signed with it.
func KeyOf(request []byte) (any, error) {
	r, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, fmt.Errorf("certificate_request: %w", err)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate_request: %w", err)
	}
	switch key := r.PublicKey.(type) {
	case ed25519.PublicKey:
		return key, nil
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return key, nil
		}
	}
	return nil, errors.New("certificate_request: its key has to be ECDSA P-256 or P-384, or Ed25519")
}

func (is *issuer) issue(ttl time.Duration, uri *url.URL, generation int64, use x509.ExtKeyUsage, key any) (
	*x509.Certificate, []byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	end := now.Add(ttl)
	if end.After(is.cert.NotAfter) {
		end = is.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{SerialNumber: strconv.FormatInt(generation, 10)}, URIs: []*url.URL{uri},
		NotBefore: now.Add(-min(maxSkew, ttl/10)), NotAfter: end, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, is.cert, key, is.key)
	if err != nil {
		return nil, nil, fmt.Errorf("issue a certificate: %w", err)
	}
	return template, der, nil
}

// serve returns what this control plane shows, and renews it when two thirds of its life are over. The authority comes
// with it, for nodes that know its pin.
func (a *Authority) serve(ctx context.Context) (*tls.Certificate, error) {
	is, err := a.await(ctx)
	if err != nil {
		return nil, err
	}
	a.serving.Lock()
	defer a.serving.Unlock()
	if a.own != nil && time.Now().Before(a.own.renewAt) {
		return a.own.certificate, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	_, der, err := is.issue(controlPlaneTTL, identity.ControlPlaneURI(), 1, x509.ExtKeyUsageServerAuth, &key.PublicKey)
	if err != nil {
		return nil, err
	}
	a.own = &certified{&tls.Certificate{Certificate: [][]byte{der, is.cert.Raw}, PrivateKey: key},
		time.Now().Add(controlPlaneTTL * 2 / 3)}
	return a.own.certificate, nil
}
