package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/mholt/acmez/v3/acme"

	"gateway.internal/shared/observe"
)

// account is what is known of one directory. There is one account for each, whose key all control planes share.
type account struct {
	client *acme.Client

	mu         sync.Mutex // held over the registration: the first order does it, the others wait
	registered acme.Account
}

func (k *Keeper) of(directory string) *account {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.accounts[directory]
	if a == nil {
		a = &account{client: &acme.Client{Directory: directory, HTTPClient: k.settings.HTTP, UserAgent: "gateway/" + observe.Version(), Logger: slog.New(slog.DiscardHandler)}}
		k.accounts[directory] = a
	}
	return a
}

func (k *Keeper) client(directory string) *acme.Client { return k.of(directory).client }

// account returns the account of a directory, and registers it once in a process: a server that knows the key returns
// what it has (RFC 8555 section 7.3.1). The terms of service are agreed to, which the operator said with
// --acme-agree-tos.
func (k *Keeper) account(ctx context.Context, client *acme.Client, directory string) (acme.Account, error) {
	a := k.of(directory)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.registered.Location != "" {
		return a.registered, nil
	}
	der, err := k.store.Secret(ctx, "acme account "+directory, newAccountKey)
	if err != nil {
		return acme.Account{}, fmt.Errorf("read the account's key: %w", err)
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return acme.Account{}, errors.New("the account's key in the store does not parse")
	}
	wanted := acme.Account{PrivateKey: key, TermsOfServiceAgreed: true}
	if k.settings.Contact != "" {
		wanted.Contact = []string{"mailto:" + k.settings.Contact}
	}
	registered, err := client.NewAccount(ctx, wanted)
	if err != nil {
		return acme.Account{}, fmt.Errorf("register an account: %w", err)
	}
	a.registered = registered
	return registered, nil
}

func newAccountKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.MarshalECPrivateKey(key)
}

// forget makes the next order register again: the server may not know the account any more.
func (k *Keeper) forget(directory string) {
	a := k.of(directory)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.registered = acme.Account{}
}
