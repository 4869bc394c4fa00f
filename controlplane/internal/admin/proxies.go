package admin

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	rules "gateway.internal/shared/middleware"
)

// maxProxies is how many proxies a client is looked for behind.
const maxProxies = 32

// Proxies are those whose X-Forwarded-For is believed; nil: nobody's. They are immutable.
type Proxies struct{ prefixes []netip.Prefix }

// ParseProxies reads a list of IP addresses and CIDR prefixes.
func ParseProxies(list []string) (*Proxies, error) {
	p := &Proxies{}
	for _, text := range list {
		prefix, err := rules.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q %w", text, err)
		}
		p.prefixes = append(p.prefixes, prefix)
	}
	return p, nil
}

func (p *Proxies) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(p.prefixes, func(prefix netip.Prefix) bool { return prefix.Contains(a) })
}

// client returns the address that a request comes from: that of the connection, or, where that is a trusted proxy's,
// the last one of X-Forwarded-For that is none. What clients have written there themselves is before that, and is not
// looked at. Where an entry can't be read it is the one after that, which a proxy has written.
func (p *Proxies) client(remote string, forwarded []string) string {
	if p == nil {
		return remote
	}
	at, err := addressOf(remote)
	if err != nil || !p.trusts(at) {
		return remote
	}
	list := strings.Split(strings.Join(forwarded, ","), ",")
	for i, entry := range slices.Backward(list) {
		next, err := addressOf(strings.TrimSpace(entry))
		if err != nil || len(list)-i > maxProxies {
			break
		}
		if at = next; !p.trusts(at) {
			break
		}
	}
	return at.String()
}

// addressOf reads an address, which may have a port.
func addressOf(text string) (netip.Addr, error) {
	if with, err := netip.ParseAddrPort(text); err == nil {
		return with.Addr().Unmap().WithZone(""), nil
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	return a.Unmap().WithZone(""), err
}
