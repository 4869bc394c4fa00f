package listener

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"gateway.internal/dataplane/internal/certificate"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// Security is how a listener speaks TLS.
type Security struct {
	// Certificates returns the set in force; nil where there is none.
	Certificates func() *certificate.Set
	// HandshakeTimeout is the longest that a handshake may take.
	HandshakeTimeout time.Duration
}

type policyKey struct{}

// handshake agrees on TLS with a client that has just connected, unless parent is over before.
func (s *Security) handshake(parent context.Context, nc net.Conn, peer *exchange.Peer) (*tls.Conn, *exchange.Peer, error) {
	var policy certificate.Policy
	ctx, cancel := context.WithTimeout(context.WithValue(parent, policyKey{}, &policy), s.HandshakeTimeout)
	defer cancel()
	conn := tls.Server(socket.NewTransport(nc), &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: s.choose})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, nil, err
	}
	state := conn.ConnectionState()
	return conn, peer.Secured(&state, policy.ID), nil
}

func (s *Security) choose(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	config, policy := s.Certificates().Choose(hello)
	*hello.Context().Value(policyKey{}).(*certificate.Policy) = policy
	return config, nil
}
