package acme

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/mail"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/shared/config"
)

// LetsEncrypt is the directory of Let's Encrypt.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// Flags are the settings on a command line.
type Flags struct {
	on, agreed                 bool
	directory, contact, caFile string
}

// Bind declares the flags.
func (f *Flags) Bind(set *pflag.FlagSet) {
	set.BoolVar(&f.on, "acme", false, "obtain and renew the certificates of the configuration that say acme")
	set.StringVar(&f.directory, "acme-directory", LetsEncrypt, "directory of the ACME server for certificates that name none")
	set.StringVar(&f.contact, "acme-contact", "", "mail address that ACME servers may write to")
	set.BoolVar(&f.agreed, "acme-agree-tos", false, "agree to the terms of service of every ACME server that is used; required with --acme")
	set.StringVar(&f.caFile, "acme-ca-file", "", "PEM file with the authorities that ACME servers' own certificates may be from; empty: the system's")
}

// Keeper returns the keeper that the flags describe; nil without --acme.
func (f *Flags) Keeper(c *catalog.Catalog, s Store, n Nodes, log *slog.Logger, registry prometheus.Registerer) (*Keeper, error) {
	if !f.on {
		return nil, nil //nolint:nilnil // it is an option
	}
	set, err := f.settings()
	if err != nil {
		return nil, err
	}
	return New(set, c, s, n, log, registry), nil
}

func (f *Flags) settings() (Settings, error) {
	s := Settings{DirectoryURL: f.directory, Contact: f.contact}
	if !f.agreed {
		return s, errors.New("--acme needs --acme-agree-tos: ACME servers issue certificates only to those who agree to their terms of service")
	}
	if err := config.CheckDirectoryURL(f.directory); err != nil {
		return s, fmt.Errorf("--acme-directory %q %w", f.directory, err)
	}
	if f.contact != "" {
		if a, err := mail.ParseAddress(f.contact); err != nil || a.Address != f.contact {
			return s, fmt.Errorf("--acme-contact %q has to be a mail address such as ops@example.com", f.contact)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if f.caFile != "" {
		text, err := os.ReadFile(f.caFile)
		if err != nil {
			return s, fmt.Errorf("--acme-ca-file: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
			return s, fmt.Errorf("--acme-ca-file %s has no certificate in PEM", f.caFile)
		}
	}
	s.HTTP = &http.Client{Transport: transport, Timeout: time.Minute}
	return s, nil
}
