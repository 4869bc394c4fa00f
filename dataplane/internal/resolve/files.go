package resolve

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// file is one of the system's, parsed again when it has changed.
type file[T any] struct {
	path  string
	parse func(text string) (T, error)

	mu    sync.Mutex
	at    time.Time
	size  int64
	known T
}

// get returns what the file has by now. What can't be read or parsed leaves it as it was.
func (f *file[T]) get() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := os.Stat(f.path)
	if err != nil || at.ModTime().Equal(f.at) && at.Size() == f.size {
		return f.known
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return f.known
	}
	if next, err := f.parse(string(text)); err == nil {
		f.known, f.at, f.size = next, at.ModTime(), at.Size()
	}
	return f.known
}

// hosts are the addresses of names, which are in lower case and without a dot at the end.
type hosts map[string][]netip.Addr

// parseHosts reads a file as hosts(5) has it. Lines that are not understood are left out.
func parseHosts(text string) (hosts, error) {
	known := hosts{}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		address, err := netip.ParseAddr(fields[0])
		if err != nil || address.Zone() != "" {
			continue
		}
		for _, name := range fields[1:] {
			name = canonical(name)
			known[name] = append(known[name], address.Unmap())
		}
	}
	return known, nil
}

// canonical is the form in which names are compared.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// find returns a name's addresses. "localhost" and names beneath it are this machine's, whatever servers would say (RFC
// 6761 section 6.3).
func (h hosts) find(name string) []netip.Addr {
	name = canonical(name)
	if found := h[name]; found != nil {
		return found
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return nil
}

// parseResolvConf reads a file as resolv.conf(5) has it.
func parseResolvConf(text string) (*dns.ClientConfig, error) {
	c, err := dns.ClientConfigFromReader(strings.NewReader(text))
	if err == nil && len(c.Servers) == 0 {
		c.Servers = []string{"127.0.0.1"}
	}
	return c, err
}
