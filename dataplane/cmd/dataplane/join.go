package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"gateway.internal/dataplane/internal/join"
	"gateway.internal/shared/identity"
)

// join returns how the node is let in. It needs a join token where it has neither a certificate nor the files of one.
func (o *options) join(log *slog.Logger) (join.Settings, error) {
	s := join.Settings{ServerName: o.tlsServerName, Plaintext: o.plaintext}
	var err error
	if s.Token, err = o.joinToken(); err != nil {
		return s, err
	}
	if o.tls != (identity.Files{}) {
		if s.Files, err = identity.NewReloader(o.tls, log); err != nil {
			return s, fmt.Errorf("--tls-cert, --tls-key, --ca: %w", err)
		}
	}
	switch {
	case s.Token == nil && (o.plaintext || o.tls.Certificate == "" && !join.Has(o.dataDir)):
		return s, errors.New("a join token is required: GATEWAY_JOIN_TOKEN in the environment, or --join-token-file; " +
			"gatewayctl join-token create makes one")
	case o.plaintext && s.Token.Static == "":
		return s, errors.New("--plaintext: a token of gatewayctl join-token create is never shown in plain text")
	}
	return s, nil
}

// named returns the id in a certificate of files; "": there is none.
func named(files *identity.Reloader) string {
	if files == nil || files.Current().Certificate == nil {
		return ""
	}
	leaf, err := x509.ParseCertificate(files.Current().Certificate.Certificate[0])
	if err != nil {
		return ""
	}
	name, err := identity.NameIn(leaf)
	if err != nil {
		return ""
	}
	return name.ID
}

// joinToken returns the join token; nil: there is none.
func (o *options) joinToken() (*identity.Token, error) {
	if t := os.Getenv("GATEWAY_JOIN_TOKEN"); t != "" {
		return checkedToken(t, "environment variable GATEWAY_JOIN_TOKEN")
	}
	if o.joinTokenFile == "" {
		return nil, nil //nolint:nilnil // it is an option
	}
	text, err := os.ReadFile(o.joinTokenFile)
	if errors.Is(err, fs.ErrNotExist) && join.Has(o.dataDir) {
		return nil, nil //nolint:nilnil // it has done its work, and was taken away
	}
	if err != nil {
		return nil, fmt.Errorf("join token: %w", err)
	}
	return checkedToken(strings.TrimSpace(string(text)), "--join-token-file "+o.joinTokenFile)
}

func checkedToken(text, where string) (*identity.Token, error) {
	t, err := identity.ParseToken(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return &t, nil
}
