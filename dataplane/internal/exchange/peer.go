package exchange

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net"
	"net/netip"
	"sync"
)

// Peer is what is known of a client when its connection has been opened. It is immutable; the connection's exchanges
// share it.
type Peer struct {
	// Client is the client's address; the zero value where it has none, as on a Unix socket.
	Client netip.AddrPort
	// ClientText is Client's address in text.
	ClientText string
	// Scheme is "http" or "https".
	Scheme string
	// Port is the node's, that the connection came in at; 0 on a Unix socket.
	Port uint16
	// Local is the node's address that the connection came in at; the zero value on a Unix socket.
	Local netip.AddrPort
	// TLS is what was agreed on; nil without TLS.
	TLS *TLS
	// Trusted is set when what the peer says of clients is believed.
	Trusted bool
	// Forwarding is how services are told of the client, and what a trusted peer is asked; nil: the zero value.
	Forwarding *Forwarding
}

// TLS is what a client and the node agreed on.
type TLS struct {
	// Version is the protocol's, as in crypto/tls.
	Version uint16
	// CipherSuite is the suite's number, as in crypto/tls.
	CipherSuite uint16
	// ServerName is the name that the client asked for (SNI); may be empty.
	ServerName string
	// Policy identifies what was asked of the client; zero: nothing. See certificate.Policy.
	Policy [32]byte
	// Certificate is the client's own, verified; nil: it showed none.
	Certificate *x509.Certificate
	// ClientCert is Certificate as the field Client-Cert carries it (RFC 9440 section 2.2).
	ClientCert string

	facts     ClientFacts
	factsOnce sync.Once
}

// NewPeer returns the peer at the other end of a connection without TLS.
func NewPeer(address net.Addr) *Peer {
	if a, ok := address.(*net.TCPAddr); ok {
		return ProxiedPeer(a.AddrPort())
	}
	return ProxiedPeer(netip.AddrPort{})
}

// ProxiedPeer returns the peer that a proxy forwards a connection for; the zero value where it has no address.
func ProxiedPeer(client netip.AddrPort) *Peer {
	p := &Peer{ClientText: "unknown", Scheme: "http"}
	if client.IsValid() {
		p.Client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
		p.ClientText = p.Client.Addr().String()
	}
	return p
}

// At tells the peer where its connection came in.
func (p *Peer) At(local net.Addr) {
	if a, ok := local.(*net.TCPAddr); ok {
		p.Port, p.Local = a.AddrPort().Port(), netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
}

// Secured returns the peer after a TLS handshake that asked for what policy identifies.
func (p *Peer) Secured(state *tls.ConnectionState, policy [32]byte) *Peer {
	s := *p
	s.Scheme = "https"
	s.TLS = &TLS{Version: state.Version, CipherSuite: state.CipherSuite, ServerName: state.ServerName, Policy: policy}
	if len(state.VerifiedChains) > 0 {
		s.TLS.Certificate = state.VerifiedChains[0][0]
		s.TLS.ClientCert = ":" + base64.StdEncoding.EncodeToString(s.TLS.Certificate.Raw) + ":"
	}
	return &s
}
