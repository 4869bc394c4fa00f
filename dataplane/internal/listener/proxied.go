package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/listener/proxyproto"
)

// ProxyProtocol says which connections begin with a header of the PROXY protocol. A receiver must not guess that from
// what comes, since then everybody could claim any address: it goes by the address that the connection comes from.
type ProxyProtocol uint8

// The choices; the zero value is ProxyProtocolOff.
const (
	// ProxyProtocolOff expects no headers.
	ProxyProtocolOff ProxyProtocol = iota
	// ProxyProtocolAccept wants a header from trusted proxies, and serves everybody else without one.
	ProxyProtocolAccept
	// ProxyProtocolRequire wants a header from trusted proxies, and turns everybody else away.
	ProxyProtocolRequire
)

var proxyProtocolNames = [...]string{"off", "accept", "require"}

// String returns the choice's name.
func (p ProxyProtocol) String() string { return proxyProtocolNames[p] }

// Set makes it the choice of a name. With Type it makes this a flag's value.
func (p *ProxyProtocol) Set(name string) error {
	for i, n := range proxyProtocolNames {
		if n == name {
			*p = ProxyProtocol(i)
			return nil
		}
	}
	return fmt.Errorf("has to be off, accept or require")
}

// Type names the kind of value that a flag takes.
func (p *ProxyProtocol) Type() string { return "choice" }

// errNotProxied is a connection that comes past the proxies.
var errNotProxied = errors.New("the connection does not come from a trusted proxy, and the PROXY protocol is required")

// identify finds out who is at the other end of a connection.
func (l *Listener) identify(nc net.Conn) (*exchange.Peer, error) {
	peer := exchange.NewPeer(nc.RemoteAddr())
	peer.At(nc.LocalAddr())
	peer.Forwarding, peer.Trusted = &l.forwarding, l.set.Proxies.Trust(peer.Client.Addr())
	if l.set.ProxyProtocol == ProxyProtocolOff {
		return peer, nil
	}
	if !peer.Trusted {
		if l.set.ProxyProtocol == ProxyProtocolRequire {
			return peer, errNotProxied
		}
		return peer, nil
	}
	stop := context.AfterFunc(l.ended, func() { _ = nc.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	h, err := proxyproto.Read(nc, l.set.HeaderTimeout)
	if err != nil || h.Local {
		return peer, err
	}
	proxied := exchange.ProxiedPeer(h.Source)
	proxied.Port, proxied.Local = peer.Port, peer.Local
	proxied.Forwarding = &l.forwarding
	// "unix" trusts those at this node's own sockets, not those at another proxy's.
	proxied.Trusted = h.Source.IsValid() && l.set.Proxies.Trust(h.Source.Addr())
	return proxied, nil
}
