package authority

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"

	"gateway.internal/shared/identity"
)

// Settings say how nodes are let in.
type Settings struct {
	// StaticToken lets any number of nodes in; empty: there is none.
	StaticToken string
	// NodeTTL is how long nodes' certificates are valid.
	NodeTTL time.Duration
	// Plaintext lets nodes in that show the static token in plain text.
	Plaintext bool
	// Outside has what other authorities have issued; nil: nothing. Its certificate is shown in place of one of the
	// built-in authority, and its authorities are those of nodes' certificates.
	Outside *identity.Reloader
}

// The shortest and the longest time for which a node's certificate may be valid. Short ones are for tests.
const (
	LeastNodeTTL = 10 * time.Second
	MostNodeTTL  = 8760 * time.Hour
)

// Flags are the settings on a command line.
type Flags struct {
	// NodeTTL, Plaintext and Static are the settings' own.
	NodeTTL           time.Duration
	Plaintext, Static bool
	Files             identity.Files
}

// Bind declares the flags.
func (f *Flags) Bind(set *pflag.FlagSet) {
	set.DurationVar(&f.NodeTTL, "node-certificate-ttl", 7*24*time.Hour, "how long the certificates of nodes are "+
		"valid, which they "+
		"renew when two thirds of that are over; 10s to 8760h")
	set.BoolVar(&f.Static, "static-join-token", true, "let any number of nodes in that have the token of "+
		"GATEWAY_JOIN_TOKEN or "+
		"--join-token-file; false: only tokens of gatewayctl join-token create are good")
	set.BoolVar(&f.Plaintext, "stream-plaintext", false, "serve the stream in plain text too, to nodes that show the "+
		"static join "+
		"token and are believed who they are: for builds that know no TLS, or where the network encrypts")
	set.StringVar(&f.Files.Certificate, "stream-tls-cert", "", "PEM file with the certificate that nodes are shown, "+
		"and those "+
		"between it and its authority, which nodes have as --ca; read again when it changes; empty: one of the built-in "+
		"authority")
	set.StringVar(&f.Files.Key, "stream-tls-key", "", "PEM file with that certificate's key")
	set.StringVar(&f.Files.Authorities, "stream-client-ca", "", "PEM file with the authorities of nodes' "+
		"certificates, in place of "+
		"the built-in one: join tokens are of no use then; read again when it changes")
}

// Settings returns what the flags say, with the static token.
func (f *Flags) Settings(token string, log *slog.Logger) (Settings, error) {
	s := Settings{NodeTTL: f.NodeTTL, Plaintext: f.Plaintext}
	if err := f.check(); err != nil {
		return s, err
	}
	if f.Static {
		t, err := identity.ParseToken(token)
		if err != nil {
			return s, fmt.Errorf("join token: %w", err)
		}
		if t.Static == "" {
			return s, errors.New("join token: GATEWAY_JOIN_TOKEN or --join-token-file is one of gatewayctl join-token " +
				"create, which " +
				"is for a node; a control plane is given a text of its own, or --static-join-token=false")
		}
		s.StaticToken = token
	}
	if f.Files != (identity.Files{}) {
		var err error
		if s.Outside, err = identity.NewReloader(f.Files, log); err != nil {
			return s, fmt.Errorf("--stream-tls-cert, --stream-tls-key, --stream-client-ca: %w", err)
		}
	}
	return s, nil
}

func (f *Flags) check() error {
	switch {
	case f.NodeTTL < LeastNodeTTL || f.NodeTTL > MostNodeTTL:
		return fmt.Errorf("--node-certificate-ttl %s: has to be from 10s to 8760h", f.NodeTTL)
	case (f.Files.Certificate == "") != (f.Files.Key == ""):
		return errors.New("--stream-tls-cert and --stream-tls-key: both are required, or none of them")
	case f.Plaintext && !f.Static:
		return errors.New("--stream-plaintext: nodes in plain text show the static join token, which " +
			"--static-join-token=false turns off")
	}
	return nil
}

// roots returns whose certificates nodes may have.
func (a *Authority) roots(ctx context.Context) (pool *x509.CertPool, outside bool, err error) {
	if a.TakesOutside() {
		return a.set.Outside.Current().Authorities, true, nil
	}
	is, err := a.await(ctx)
	if err != nil {
		return nil, false, err
	}
	return is.pool, false, nil
}

// TakesOutside reports whether nodes' certificates are of an outside authority, so that nodes are not enrolled here.
func (a *Authority) TakesOutside() bool {
	return a.set.Outside != nil && a.set.Outside.Current().Authorities != nil
}

// Transport returns what the stream is served by.
func (a *Authority) Transport() credentials.TransportCredentials {
	return &transport{TransportCredentials: credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, SessionTicketsDisabled: true,
		// Authenticate verifies it, so that nodes are told what is wrong.
		ClientAuth: tls.RequestClientCert,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			// Who knows nobody yet asks for nothing else than to know the authority, which is in the chain.
			if a.set.Outside != nil {
				if c := a.set.Outside.Current().Certificate; c != nil {
					return c, nil
				}
			}
			return a.serve(hello.Context())
		},
	}), authority: a}
}

// transport tells TLS from plain text by the first byte.
type transport struct {
	credentials.TransportCredentials
	authority *Authority
}

// handshakeRecord is the first byte of a TLS connection (RFC 8446 section 5.1).
const handshakeRecord = 0x16

var errPlaintext = errors.New("a connection in plain text: the stream is served over TLS (--stream-plaintext lets " +
	"nodes of earlier " +
	"builds in)")

// ServerHandshake implements credentials.TransportCredentials.
func (t *transport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	first := make([]byte, 1)
	if _, err := raw.Read(first); err != nil {
		return nil, nil, err
	}
	conn := &begun{Conn: raw, first: first}
	if first[0] == handshakeRecord {
		secure, info, err := t.TransportCredentials.ServerHandshake(conn)
		if over, ok := info.(credentials.TLSInfo); ok {
			info = secured{over, &atomic.Int64{}}
		}
		return secure, info, err
	}
	if !t.authority.set.Plaintext {
		t.authority.log.Warn("node refused", "address", raw.RemoteAddr().String(), "reason", errPlaintext.Error())
		t.authority.Count(ReasonPlaintext)
		return nil, nil, errPlaintext
	}
	return conn, plaintext{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}, nil
}

// Clone implements credentials.TransportCredentials.
func (t *transport) Clone() credentials.TransportCredentials {
	return &transport{t.TransportCredentials.Clone(), t.authority}
}

// secured is a connection over TLS.
type secured struct {
	credentials.TLSInfo
	// extended is until when, as a Unix time, the node has certificates that it was given over this connection; 0: none.
	extended *atomic.Int64
}

// plaintext is a connection without TLS.
type plaintext struct{ credentials.CommonAuthInfo }

// AuthType implements credentials.AuthInfo.
func (plaintext) AuthType() string { return "insecure" }

// begun is a connection of which something has been read.
type begun struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (c *begun) Read(b []byte) (int, error) {
	if len(c.first) > 0 && len(b) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}
