// Package egress asks servers that the configuration names by URL, such as identity providers, rather than as services:
// with limits for time and size, and under a policy of which addresses may be asked. What a server answers, or what DNS
// says of its name, does not make a node ask something inside of its own network.
package egress

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// Policy says which addresses may be asked. The zero value allows public ones by https, and loopback ones where the URL
// itself says so: by 127.0.0.1, [::1] or localhost. It is immutable.
type Policy struct {
	networks []netip.Prefix
}

// privateNetworks is what "private" stands for (RFC 1918, RFC 4193, RFC 6598).
var privateNetworks = []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "100.64.0.0/10"}

// ParsePolicy returns the policy that allows more networks, each an address, a prefix, or "private" for all private
// networks: by http as well as https.
func ParsePolicy(networks []string) (*Policy, error) {
	p := &Policy{}
	for _, text := range networks {
		all := []string{text}
		if text == "private" {
			all = privateNetworks
		}
		for _, text := range all {
			prefix, err := netip.ParsePrefix(text)
			if addr, addrErr := netip.ParseAddr(text); err != nil && addrErr == nil && addr.Zone() == "" {
				prefix, err = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
			}
			if err != nil || prefix != prefix.Masked() {
				return nil, fmt.Errorf(`%q: has to be an address such as "10.1.2.3", a prefix such as "10.0.0.0/8", or "private"`,
					text)
			}
			p.networks = append(p.networks, prefix)
		}
	}
	return p, nil
}

// reserved are networks that no server on the Internet has (the registries of special-purpose addresses, RFC 6890), and
// those that lead into others' by translation.
var reserved = func() (all []netip.Prefix) {
	for _, text := range []string{
		"0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"240.0.0.0/4", "100.64.0.0/10", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32",
		"2002::/16", "fec0::/10", "3fff::/20", "5f00::/16",
	} {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}()

// public reports whether an address is a server's on the Internet.
func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, r := range reserved {
		if r.Contains(a) {
			return false
		}
	}
	return true
}

// check reports why an address may not be asked for a URL; empty: it may. It is the address that the connection is made
// to, so that a name that says something else at the second look gains nothing.
func (p *Policy) check(u *url.URL, a netip.Addr) string {
	if a = a.Unmap().WithZone(""); a.IsLoopback() && namesLoopback(u) {
		return ""
	}
	if p != nil {
		for _, n := range p.networks {
			if n.Contains(a) {
				return ""
			}
		}
	}
	switch {
	case !public(a):
		return "its address is not a public one, and --identity-provider-networks does not name it"
	case u.Scheme != "https":
		return "public addresses are asked by https alone"
	}
	return ""
}

// namesLoopback reports whether a URL says itself that it is for this machine.
func namesLoopback(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	return host == "localhost"
}
