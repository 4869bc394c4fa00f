package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// DefaultPrefix is where registrations are unless it is said otherwise.
const DefaultPrefix = "/services/"

// Settings say which cluster is followed.
type Settings struct {
	// Endpoints are the members' addresses for clients, HOST:PORT or URLs; at least one.
	Endpoints []string
	// Prefix is what the keys of registrations start with. It ends with "/".
	Prefix string
	// Username and Password are for a cluster with access control; both or none.
	Username, Password string
	// TLS is for a cluster that demands it; nil: without.
	TLS *tls.Config
}

func (s *Settings) check() error {
	switch {
	case len(s.Endpoints) == 0:
		return errors.New("etcd endpoints: at least one HOST:PORT or URL is required")
	case !strings.HasSuffix(s.Prefix, "/"):
		return fmt.Errorf(`etcd prefix %q: has to end with "/", such as %s`, s.Prefix, DefaultPrefix)
	case (s.Username == "") != (s.Password == ""):
		return errors.New("etcd user name and password: both are required, or none")
	}
	for _, e := range s.Endpoints {
		if strings.TrimSpace(e) == "" {
			return errors.New("etcd endpoints: one of them is empty")
		}
		if strings.HasPrefix(e, "https://") && s.TLS == nil {
			s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	return nil
}

// Flags are the settings on a command line.
type Flags struct {
	endpoints                                   []string
	prefix                                      string
	username, passwordFile                      string
	caFile, certificateFile, certificateKeyFile string
}

// Bind declares the flags.
func (f *Flags) Bind(set *pflag.FlagSet) {
	set.StringSliceVar(&f.endpoints, "etcd-endpoints", nil, "addresses of etcd for service discovery, HOST:PORT or URL; without any, services can't be discovered in etcd")
	set.StringVar(&f.prefix, "etcd-prefix", DefaultPrefix, "what the keys of registrations in etcd start with")
	set.StringVar(&f.username, "etcd-username", "", "user of etcd; the password is in GATEWAY_ETCD_PASSWORD or a file")
	set.StringVar(&f.passwordFile, "etcd-password-file", "", "file with the password of the etcd user; GATEWAY_ETCD_PASSWORD in the environment goes first")
	set.StringVar(&f.caFile, "etcd-ca-file", "", "PEM file with the authorities that etcd's certificate may be from; empty: the system's")
	set.StringVar(&f.certificateFile, "etcd-cert-file", "", "PEM file with the certificate to show to etcd")
	set.StringVar(&f.certificateKeyFile, "etcd-key-file", "", "PEM file with that certificate's key")
}

// Source returns the source that the flags describe; nil when they name no endpoint.
func (f *Flags) Source() (*Source, error) {
	if len(f.endpoints) == 0 {
		return nil, nil //nolint:nilnil // it is an option
	}
	s := Settings{Endpoints: f.endpoints, Prefix: f.prefix, Username: f.username, Password: os.Getenv("GATEWAY_ETCD_PASSWORD")}
	if s.Password == "" && f.passwordFile != "" {
		text, err := os.ReadFile(f.passwordFile)
		if err != nil {
			return nil, fmt.Errorf("etcd password file: %w", err)
		}
		s.Password = strings.TrimSpace(string(text))
	}
	if f.caFile != "" || f.certificateFile != "" || f.certificateKeyFile != "" {
		var err error
		if s.TLS, err = loadTLS(f.caFile, f.certificateFile, f.certificateKeyFile); err != nil {
			return nil, err
		}
	}
	return New(s)
}

func loadTLS(ca, certificate, key string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("etcd authorities: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("etcd authorities: %s has no PEM certificate", ca)
		}
	}
	if certificate != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("etcd client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
