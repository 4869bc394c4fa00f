package exchange

import (
	"fmt"
	"net/netip"

	"github.com/gaissmai/bart"

	"gateway.internal/shared/middleware"
)

// UnixPeers is the word for clients on Unix sockets in a list of proxies.
const UnixPeers = "unix"

// Proxies are those whose word on clients is believed. Nil and the zero value are nobody. They are immutable and
// shared.
type Proxies struct {
	prefixes bart.Lite
	sockets  bool
}

// ParseProxies reads a list of IP addresses and CIDR prefixes; "unix" stands for whoever connects to a Unix socket.
func ParseProxies(list []string) (*Proxies, error) {
	p := &Proxies{}
	for _, text := range list {
		if text == UnixPeers {
			p.sockets = true
			continue
		}
		prefix, err := middleware.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q %w, and not %q", text, err, UnixPeers)
		}
		p.prefixes.Insert(prefix)
	}
	return p, nil
}

// Trust reports whether an address is a proxy's. The zero value stands for a Unix socket.
func (p *Proxies) Trust(a netip.Addr) bool {
	switch {
	case p == nil:
		return false
	case !a.IsValid():
		return p.sockets
	}
	return p.prefixes.Contains(a.Unmap().WithZone(""))
}
