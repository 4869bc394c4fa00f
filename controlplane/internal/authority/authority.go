// Package authority is the certificate authority that control planes share, and who is let in to the fleet by it: it
// issues the certificates of nodes and of control planes, and knows which of them are refused.
package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/backoff"
	"gateway.internal/shared/identity"
)

const (
	// secretName is where the authority is in the store.
	secretName = "stream authority"
	// lifetime is how long the authority itself is valid.
	lifetime = 10 * 365 * 24 * time.Hour
	// patience is how long a connection waits for the authority while the store is away.
	patience = 5 * time.Second
)

// ErrNotReady is an authority that was not read yet.
var ErrNotReady = errors.New("this control plane has not read its authority yet: its store is away")

// Store is what the authority needs of the store.
type Store interface {
	store.Gatekeeper
	Secret(ctx context.Context, name string, fresh func() ([]byte, error)) ([]byte, error)
	Watch(ctx context.Context) <-chan struct{}
}

// Authority is safe for concurrent use.
type Authority struct {
	set   Settings
	store Store
	log   *slog.Logger
	// proofKey is that of the static token.
	proofKey func() (identity.ProofKey, error)
	refusals *prometheus.CounterVec

	issuer atomic.Pointer[issuer]
	ready  chan struct{} // closed when there is an issuer, and revocations are known

	serving sync.Mutex
	own     *certified // what control planes show; under serving

	mu      sync.Mutex
	refused map[string]store.Revocation // by node id; never changed in place
	lost    map[string]bool             // of these, those that the store has lost
	changed chan struct{}               // closed when refused changes
}

// issuer is the authority's certificate and key. It is immutable.
type issuer struct {
	text []byte // as it is in the store
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

// New returns an authority that is of use once Run runs, with its metrics in a registry.
func New(set Settings, s Store, log *slog.Logger, registry prometheus.Registerer) *Authority {
	a := &Authority{
		set: set, store: s, log: log, ready: make(chan struct{}), changed: make(chan struct{}), lost: map[string]bool{},
		proofKey: sync.OnceValues(func() (identity.ProofKey, error) { return identity.NewProofKey(set.StaticToken) }),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_node_refusals_total", Help: "Streams, enrolments and renewals of nodes that were refused, by " +
				"reason.",
		}, []string{"reason"}),
	}
	for _, reason := range Reasons() {
		a.refusals.WithLabelValues(reason)
	}
	registry.MustRegister(a.refusals)
	return a
}

// Count counts a node that was refused.
func (a *Authority) Count(reason string) { a.refusals.WithLabelValues(reason).Inc() }

// Run reads the authority, making it the first time, and then follows which nodes are refused until ctx ends. While
// the store is away, what is known stays.
func (a *Authority) Run(ctx context.Context) error {
	retry := backoff.Exponential{Least: 100 * time.Millisecond, Most: 5 * time.Second}
	hints := a.store.Watch(ctx)
	failing := false
	for {
		err := a.refresh(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		if err != nil {
			if !failing {
				a.log.Error("who is let in to the fleet can't be read; what is known stays", "error", err.Error())
			}
			failing = true
			if !retry.Wait(ctx, hints) {
				return nil
			}
			continue
		}
		failing = false
		retry.Reset()
		select {
		case <-ctx.Done():
			return nil
		case <-hints:
		}
	}
}

// refresh brings what is known up to date. A store that was brought back to a time before there was an authority is
// given the one that nodes know.
func (a *Authority) refresh(ctx context.Context) error {
	before := a.issuer.Load()
	text, err := a.store.Secret(ctx, secretName, func() ([]byte, error) {
		if before != nil {
			a.log.Warn("the store has no authority any more: it is given the one that nodes know")
			return before.text, nil
		}
		return create()
	})
	if err != nil {
		return err
	}
	if before == nil || string(before.text) != string(text) {
		is, err := parse(text)
		if err != nil {
			return fmt.Errorf("the authority in the store: %w", err)
		}
		if before != nil {
			a.log.Warn("the store has another authority: its content was replaced, and nodes have to be enrolled again")
		}
		a.issuer.Store(is)
		a.serving.Lock()
		a.own = nil
		a.serving.Unlock()
	}
	list, err := a.store.Revocations(ctx)
	if err != nil {
		return err
	}
	a.refuse(list)
	if before == nil {
		close(a.ready)
	}
	return nil
}

// await returns the issuer, for which it waits a little.
func (a *Authority) await(ctx context.Context) (*issuer, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-a.ready:
		return a.issuer.Load(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, ErrNotReady
	}
}

// Pin returns the pin that join tokens have.
func (a *Authority) Pin(ctx context.Context) ([32]byte, error) {
	is, err := a.await(ctx)
	if err != nil {
		return [32]byte{}, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return identity.PinOf(is.cert), nil
}

// create makes an authority, as it is kept.
func create() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "gateway stream authority"},
		NotBefore: now.Add(-maxSkew), NotAfter: now.Add(lifetime), BasicConstraintsValid: true, IsCA: true,
		MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...), nil
}

func parse(text []byte) (*issuer, error) {
	certificate, rest := pem.Decode(text)
	key, _ := pem.Decode(rest)
	if certificate == nil || key == nil {
		return nil, errors.New("is no certificate with its key")
	}
	is := &issuer{text: text, pool: x509.NewCertPool()}
	var err error
	if is.cert, err = x509.ParseCertificate(certificate.Bytes); err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(key.Bytes)
	if err != nil {
		return nil, errors.New("its key does not parse") // what the library says may have some of it
	}
	var ok bool
	if is.key, ok = parsed.(*ecdsa.PrivateKey); !ok || !is.key.PublicKey.Equal(is.cert.PublicKey) {
		return nil, errors.New("its key is not that of its certificate")
	}
	is.pool.AddCert(is.cert)
	return is, nil
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}
