package acme

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/catalog"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// errChanged is an order whose certificate was changed meanwhile: what was obtained is not what is wanted now.
var errChanged = errors.New("the certificate was changed while it was ordered")

// obtain orders a certificate, proves its hosts, and commits what the server issues, together with the end of the
// challenges.
func (k *Keeper) obtain(ctx context.Context, m *configv1.Certificate, replaced *x509.Certificate) (err error) {
	directory := k.directory(m)
	client := k.client(directory)
	acc, err := k.account(ctx, client, directory)
	if err != nil {
		return err
	}
	order, err := newOrder(ctx, client, acc, m, replaced)
	if err != nil {
		if problem, ok := errors.AsType[acme.Problem](err); ok && problem.Type == acme.ProblemTypeAccountDoesNotExist {
			k.forget(directory)
		}
		return err
	}
	var routes []*configv1.Route
	defer func() {
		if err != nil && len(routes) > 0 {
			k.removeRoutes(ctx, m, routes)
		}
	}()
	if routes, err = k.prove(ctx, client, acc, m, order); err != nil {
		return err
	}
	key, err := newKey(cmp.Or(m.GetAcme().GetKeyType(), defaultKeyType))
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	csr, err := request(m.GetHosts(), key)
	if err != nil {
		return fmt.Errorf("make a certificate request: %w", err)
	}
	if order, err = client.FinalizeOrder(ctx, acc, order, csr); err != nil {
		return fmt.Errorf("finalize the order: %w", err)
	}
	chains, err := client.GetCertificateChain(ctx, acc, order.Certificate)
	if err != nil {
		return fmt.Errorf("download the certificate: %w", err)
	}
	if len(chains) == 0 {
		return errors.New("download the certificate: the server gave none")
	}
	return k.keep(ctx, m, bytes.TrimSpace(chains[0].ChainPEM), key, routes)
}

// newOrder places an order. One that renews says what it replaces (RFC 9773 section 5), which servers count less; where
// the server does not take that, an order without it is placed.
func newOrder(ctx context.Context, client *acme.Client, acc acme.Account, m *configv1.Certificate, replaced *x509.Certificate) (acme.Order, error) {
	order := acme.Order{Profile: m.GetAcme().GetProfile()}
	for _, h := range m.GetHosts() {
		id := acme.Identifier{Type: "dns", Value: h}
		if _, err := netip.ParseAddr(h); err == nil {
			id.Type = "ip" // RFC 8738
		}
		order.Identifiers = append(order.Identifiers, id)
	}
	dir, err := client.GetDirectory(ctx)
	if err != nil {
		return order, fmt.Errorf("read the directory: %w", err)
	}
	if dir.RenewalInfo != "" && replaced != nil && m.GetObtained().GetDirectoryUrl() == client.Directory {
		renews := order
		if renews.Replaces, err = acme.ARIUniqueIdentifier(replaced); err == nil {
			if placed, err := client.NewOrder(ctx, acc, renews); err == nil {
				return placed, nil
			}
		}
	}
	placed, err := client.NewOrder(ctx, acc, order)
	if err != nil {
		return order, fmt.Errorf("place an order: %w", err)
	}
	return placed, nil
}

// keep commits a certificate with its key, and removes the routes of its challenges.
func (k *Keeper) keep(ctx context.Context, ordered *configv1.Certificate, chain []byte, key crypto.Signer, routes []*configv1.Route) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	leaf := leafOf(string(chain))
	if leaf == nil {
		return errors.New("the server issued something that is no certificate")
	}
	message := fmt.Sprintf("certificate %s obtained from %s, valid until %s", ordered.GetName(), k.directory(ordered), leaf.NotAfter.UTC().Format(time.RFC3339))
	keyPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	revision, err := k.commit(ctx, message, func(v *catalog.Version) ([]config.Edit, error) {
		e := v.Config.ByID(config.Certificate, ordered.GetId())
		if e == nil {
			return nil, errChanged
		}
		current := e.Message.(*configv1.Certificate)
		if current.GetAcme() == nil || k.desired(current) != k.desired(ordered) {
			return nil, errChanged
		}
		next := proto.CloneOf(current)
		next.CertPem, next.KeyPem = string(chain)+"\n", keyPEM
		next.Obtained = &configv1.Obtained{DirectoryUrl: k.directory(ordered), At: timestamppb.Now()}
		return append(removals(v, routes), config.Edit{Kind: config.Certificate, Put: next, Obtains: true}), nil
	})
	if err != nil {
		return err
	}
	k.log.Info("acme: a certificate was obtained", "certificate", ordered.GetName(), "revision", revision, "not_after", leaf.NotAfter)
	return nil
}

// newKey makes a key of one of the types that a configuration may name.
func newKey(keyType string) (crypto.Signer, error) {
	switch keyType {
	case "ecdsa-p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa-p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "rsa-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fmt.Errorf("unknown type %q", keyType)
}

// request returns a certificate request for hosts. It has no subject: a common name would have a limit of 64 bytes.
func request(hosts []string, key crypto.Signer) ([]byte, error) {
	template := &x509.CertificateRequest{}
	for _, h := range hosts {
		if a, err := netip.ParseAddr(h); err == nil {
			template.IPAddresses = append(template.IPAddresses, a.AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	return x509.CreateCertificateRequest(rand.Reader, template, key)
}
