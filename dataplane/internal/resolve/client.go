package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// hostsTTL is how long what a file says is believed.
	hostsTTL = 5 * time.Second
	// udpBytes is the largest answer that is asked for over UDP: what gets through without being cut into packets (DNS
	// flag day 2020).
	udpBytes = 1232
	// maxAddresses is how many addresses of a name and family are used.
	maxAddresses = 256
	// otherFamilyWait is how long a name with addresses of one family waits for the answer about the other one: there are
	// servers that never answer questions about IPv6.
	otherFamilyWait = time.Second
)

// client asks the system's files and name servers.
type client struct {
	servers []string // HOST:PORT; empty: those of the file
	conf    file[*dns.ClientConfig]
	hosts   file[hosts]
	udp     dns.Client
	tcp     dns.Client
}

func newClient(s Settings) (*client, error) {
	c := &client{udp: dns.Client{UDPSize: udpBytes}, tcp: dns.Client{Net: "tcp"}}
	for _, server := range s.Servers {
		at, err := serverAddress(server)
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, at)
	}
	c.conf = file[*dns.ClientConfig]{path: orPath(s.ResolvConf, "/etc/resolv.conf"), parse: parseResolvConf}
	c.conf.known, _ = parseResolvConf("")
	c.hosts = file[hosts]{path: orPath(s.Hosts, "/etc/hosts"), parse: parseHosts}
	return c, nil
}

func orPath(path, absent string) string {
	if path == "" {
		return absent
	}
	return path
}

// serverAddress reads "ADDRESS" or "ADDRESS:PORT".
func serverAddress(server string) (string, error) {
	if address, err := netip.ParseAddr(strings.Trim(server, "[]")); err == nil {
		return netip.AddrPortFrom(address, 53).String(), nil
	}
	at, err := netip.ParseAddrPort(server)
	if err != nil || at.Port() == 0 {
		return "", fmt.Errorf("%q: is no address of a name server such as 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:53", server)
	}
	return at.String(), nil
}

// CheckServers reports the first that is no address of a name server.
func CheckServers(servers []string) error {
	for _, server := range servers {
		if _, err := serverAddress(server); err != nil {
			return err
		}
	}
	return nil
}

// ServerAddresses returns name servers that CheckServers has passed, each with its port.
func ServerAddresses(servers []string) (all []string) {
	for _, server := range servers {
		if at, err := serverAddress(server); err == nil {
			all = append(all, at)
		}
	}
	return all
}

// lookup asks for a name: the file of hosts first, then the name servers, with the suffixes that the system's settings
// have.
func (c *client) lookup(ctx context.Context, name string) (answer, error) {
	if found := c.hosts.get().find(name); found != nil {
		return answer{addresses: found, ttl: hostsTTL}, nil
	}
	conf := c.conf.get()
	var last error
	for _, full := range conf.NameList(name) {
		got, err := c.both(ctx, conf, full)
		if err == nil {
			got.addresses = reachable(got.addresses)
			return got, nil
		}
		if last == nil || errors.Is(last, ErrNotFound) {
			last = err // a failure says more than that a name with a suffix does not exist
		}
	}
	return answer{}, last
}

// both asks for the addresses of both families at once. One of them is enough.
func (c *client) both(ctx context.Context, conf *dns.ClientConfig, name string) (answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var answers [2]answer
	var errs [2]error
	var wg sync.WaitGroup
	for i, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		wg.Go(func() {
			if answers[i], errs[i] = c.ask(ctx, conf, name, kind); errs[i] == nil {
				time.AfterFunc(otherFamilyWait, cancel)
			}
		})
	}
	wg.Wait()
	switch v4, v6 := errs[0], errs[1]; {
	case v4 == nil && v6 == nil:
		return answer{addresses: append(answers[0].addresses, answers[1].addresses...), ttl: min(answers[0].ttl, answers[1].ttl)}, nil
	case v4 == nil:
		if !errors.Is(v6, ErrNotFound) {
			answers[0].missing = netip.Addr.Is6
		}
		return answers[0], nil
	case v6 == nil:
		if !errors.Is(v4, ErrNotFound) {
			answers[1].missing = netip.Addr.Is4
		}
		return answers[1], nil
	case errors.Is(v4, ErrNotFound):
		return answer{}, v6
	default:
		return answer{}, v4
	}
}

// ask asks one server after the other, as often as the settings say, until one knows.
func (c *client) ask(ctx context.Context, conf *dns.ClientConfig, name string, kind uint16) (answer, error) {
	servers := c.servers
	if len(servers) == 0 {
		for _, s := range conf.Servers {
			servers = append(servers, net.JoinHostPort(s, conf.Port))
		}
	}
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	m.SetEdns0(udpBytes, false)
	var last error
	for range max(conf.Attempts, 1) {
		for _, server := range servers {
			m.Id = dns.Id()
			got, err := c.exchange(ctx, m, server, time.Duration(max(conf.Timeout, 1))*time.Second)
			if err == nil || errors.Is(err, ErrNotFound) {
				return got, err
			}
			if ctx.Err() != nil {
				return answer{}, ctx.Err()
			}
			last = err
		}
	}
	return answer{}, last
}

// exchange asks one server: over TCP when an answer does not fit into a packet.
func (c *client) exchange(ctx context.Context, m *dns.Msg, server string, timeout time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := once(ctx, &c.udp, m, server)
	if r != nil && r.Rcode == dns.RcodeFormatError && r.IsEdns0() == nil { // a server that does not know EDNS (RFC 6891 section 7)
		m = m.Copy()
		m.Extra = nil
		r, err = once(ctx, &c.udp, m, server)
	}
	if r != nil && r.Truncated {
		r, err = once(ctx, &c.tcp, m, server)
	}
	if err != nil {
		return answer{}, fmt.Errorf("name server %s: %w", server, err)
	}
	return read(m, r, server)
}

// once sends a question and waits for its answer until ctx ends, for two seconds at most. The library's own call heeds
// ctx's deadline only.
func once(ctx context.Context, client *dns.Client, m *dns.Msg, server string) (*dns.Msg, error) {
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	r, _, err := client.ExchangeWithConnContext(ctx, m, conn)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return r, err
}

// read takes the addresses out of an answer: those of the name itself, or of the names that it is an alias for, in
// turn.
func read(m, r *dns.Msg, server string) (answer, error) {
	switch {
	case !r.Response || len(r.Question) != 1 || !strings.EqualFold(r.Question[0].Name, m.Question[0].Name) || r.Question[0].Qtype != m.Question[0].Qtype:
		return answer{}, fmt.Errorf("name server %s: has answered something else", server)
	case r.Rcode == dns.RcodeNameError:
		return answer{}, fmt.Errorf("name server %s: %w", server, ErrNotFound)
	case r.Rcode != dns.RcodeSuccess:
		return answer{}, fmt.Errorf("name server %s: says %s", server, dns.RcodeToString[r.Rcode])
	}
	aliases := map[string]*dns.CNAME{}
	for _, rr := range r.Answer {
		if alias, is := rr.(*dns.CNAME); is {
			aliases[canonical(alias.Hdr.Name)] = alias
		}
	}
	name, ttl := canonical(m.Question[0].Name), uint32(1<<31-1)
	for range len(aliases) {
		alias := aliases[name]
		if alias == nil {
			break
		}
		name, ttl = canonical(alias.Target), min(ttl, alias.Hdr.Ttl)
	}
	var got answer
	for _, rr := range r.Answer {
		var address netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			address, _ = netip.AddrFromSlice(rr.A.To4())
		case *dns.AAAA:
			address, _ = netip.AddrFromSlice(rr.AAAA.To16())
		}
		if address.IsValid() && canonical(rr.Header().Name) == name {
			got.addresses, ttl = append(got.addresses, address.Unmap()), min(ttl, rr.Header().Ttl)
		}
	}
	if len(got.addresses) == 0 {
		return answer{}, fmt.Errorf("name server %s: %w", server, ErrNotFound)
	}
	// Servers turn the order from answer to answer: of many addresses the same ones have to be used each time.
	slices.SortFunc(got.addresses, netip.Addr.Compare)
	got.addresses = slices.Compact(got.addresses)
	got.addresses = got.addresses[:min(len(got.addresses), maxAddresses)]
	got.ttl = time.Duration(ttl) * time.Second
	return got, nil
}

// reachable leaves addresses out that this machine has no route to, such as those of IPv6 where there is none, unless
// there are no others (RFC 6724 section 5, rule 1). Nothing is sent for that.
func reachable(addresses []netip.Addr) []netip.Addr {
	var there []netip.Addr
	for _, a := range addresses {
		if conn, err := net.Dial("udp", netip.AddrPortFrom(a, 9).String()); err == nil {
			_ = conn.Close()
			there = append(there, a)
		}
	}
	if len(there) == 0 {
		return addresses
	}
	return there
}
