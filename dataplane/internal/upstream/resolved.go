package upstream

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"gateway.internal/dataplane/internal/resolve"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// resolvedEndpoint is where an endpoint is: an entry of the configuration or of discovery, and one of the addresses
// that its host has.
type resolvedEndpoint struct {
	entry *configv1.Endpoint
	// address is of the host's name; invalid: the host is an address itself, a Unix socket, or a name that is left to the
	// system.
	address netip.Addr
	// other is tried where address refuses; invalid: none is.
	other netip.Addr
}

// key is what an endpoint is known by in its service.
func (p *resolvedEndpoint) key() string {
	return config.EndpointKey(p.entry) + "|" + p.address.String()
}

// dialed returns "host:port" or "unix:/path", with the address for a name.
func (p *resolvedEndpoint) dialed() string {
	if !p.address.IsValid() {
		return config.EndpointKey(p.entry)
	}
	return netip.AddrPortFrom(p.address, uint16(p.entry.GetPort())).String()
}

func sameEndpoints(a, b []resolvedEndpoint) bool {
	return slices.EqualFunc(a, b, func(x, y resolvedEndpoint) bool {
		if x.address != y.address || x.other != y.other {
			return false
		}
		return x.entry == y.entry || config.EndpointKey(x.entry) == config.EndpointKey(y.entry) &&
			config.Weight(x.entry) == config.Weight(y.entry) && maps.Equal(x.entry.GetLabels(), y.entry.GetLabels())
	})
}

// isName reports whether a host has to be resolved.
func isName(host string) bool {
	if _, isUnix := config.UnixPath(host); isUnix {
		return false
	}
	_, err := netip.ParseAddr(host)
	return err != nil
}

// resolveEndpoints returns where the endpoints of a list are by now: those of a name are at all of its addresses.
// unresolved are the names without any.
func resolveEndpoints(
	list []*configv1.Endpoint, resolver *resolve.Resolver,
) (at []resolvedEndpoint, unresolved []string) {
	for _, m := range list {
		if resolver == nil || !isName(m.GetHost()) {
			at = append(at, resolvedEndpoint{entry: m})
			continue
		}
		addresses := resolver.Addresses(m.GetHost())
		if len(addresses) == 0 {
			unresolved = append(unresolved, config.EndpointKey(m))
		}
		// The loopback addresses of both families, as of "localhost", are one machine, on which a service often listens on
		// one of them only.
		var other netip.Addr
		if slices.Contains(addresses, netip.IPv6Loopback()) && slices.ContainsFunc(addresses, isLoopback4) {
			other = netip.IPv6Loopback()
		}
		for _, a := range addresses {
			switch {
			case other.IsValid() && a == other:
			case isLoopback4(a):
				at = append(at, resolvedEndpoint{m, a, other})
			default:
				at = append(at, resolvedEndpoint{entry: m, address: a})
			}
		}
	}
	return at, unresolved
}

func isLoopback4(a netip.Addr) bool { return a.Is4() && a.IsLoopback() }

// firstLookup is how long a configuration waits for the addresses of names that it is the first to have.
const firstLookup = 2 * time.Second

// gather is how long changes of addresses are gathered: there may be thousands of names, each with other addresses
// every second.
const gather = 50 * time.Millisecond

// ResolveWith has endpoints whose host is a name be at all of its addresses, as they change. Without it names are
// resolved anew for each connection. It is called once, before the first Apply; the resolver is closed after the
// registry.
func (r *Registry) ResolveWith(resolver *resolve.Resolver) {
	r.resolver = resolver
	r.done.Go(func() {
		for {
			select {
			case <-r.stop:
				return
			case <-resolver.Changed():
			}
			select {
			case <-r.stop:
				return
			case <-time.After(gather):
			}
			select {
			case <-resolver.Changed():
			default:
			}
			r.moved()
		}
	})
}

// resolve makes the names of these services' endpoints be resolved, and waits a moment for those that are new.
func (r *Registry) resolve(services map[string]Definition, found map[string][]*configv1.Endpoint) {
	if r.resolver == nil {
		return
	}
	names := map[string]bool{}
	for id, d := range services {
		for _, m := range endpointsOf(d, found[id]) {
			if isName(m.GetHost()) {
				names[m.GetHost()] = true
			}
		}
	}
	list := make([]string, 0, len(names))
	for name := range names {
		list = append(list, name)
	}
	r.resolver.Set(list)
	ctx, cancel := context.WithTimeout(context.Background(), firstLookup)
	defer cancel()
	r.resolver.Wait(ctx)
}

// moved takes over the addresses that have changed.
func (r *Registry) moved() {
	r.change(func() (gone []*Endpoint) {
		for _, s := range r.services {
			c := s.current.Load()
			if !c.named {
				continue
			}
			dropped, err := s.update(c.source, c.found, r.resolver)
			if err != nil {
				r.log.Error("new addresses of endpoints can't be used", "service", c.name, "error", err.Error())
			}
			gone = append(gone, dropped...)
		}
		return gone
	})
}

// definitions returns the services as they are. The caller is the one that changes them.
func (r *Registry) definitions() map[string]Definition {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]Definition, len(r.services))
	for id, s := range r.services {
		all[id] = s.current.Load().source
	}
	return all
}

func hasNames(list []*configv1.Endpoint) bool {
	return slices.ContainsFunc(list, func(m *configv1.Endpoint) bool { return isName(m.GetHost()) })
}

// endpointsOf returns a service's endpoints as the configuration or discovery has them.
func endpointsOf(d Definition, found []*configv1.Endpoint) []*configv1.Endpoint {
	if d.Service.GetDiscovery() != nil {
		return found
	}
	return d.Service.GetEndpoints()
}
