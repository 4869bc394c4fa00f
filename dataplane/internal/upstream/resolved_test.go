package upstream

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/resolve"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// resolving returns a registry with the names of a file of hosts.
func resolving(t *testing.T, hosts string) *Registry {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	resolver, err := resolve.New(resolve.Settings{Hosts: path, ResolvConf: path, Servers: []string{"127.0.0.1:1"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := NewRegistry(slog.New(slog.DiscardHandler))
	r.ResolveWith(resolver)
	t.Cleanup(func() {
		r.Close()
		resolver.Close()
	})
	return r
}

// TestAddressesOfNames has services with names in the configuration and in discovery: every address is an endpoint.
func TestAddressesOfNames(t *testing.T) {
	weight := uint32(3)
	for name, c := range map[string]struct {
		endpoints []*configv1.Endpoint
		want      []string // of six picks
	}{
		"two addresses":        {[]*configv1.Endpoint{{Host: "two.test", Port: 80}}, []string{"127.0.0.2:80 3", "127.0.0.3:80 3"}},
		"and one beside":       {[]*configv1.Endpoint{{Host: "two.test", Port: 80}, {Host: "10.0.0.1", Port: 81}}, []string{"10.0.0.1:81 2", "127.0.0.2:80 2", "127.0.0.3:80 2"}},
		"both families":        {[]*configv1.Endpoint{{Host: "both.test", Port: 80}}, []string{"10.0.0.2:80 3", "[2001:db8::2]:80 3"}},
		"one name, two ports":  {[]*configv1.Endpoint{{Host: "one.test", Port: 80}, {Host: "one.test", Port: 81}}, []string{"127.0.0.4:80 3", "127.0.0.4:81 3"}},
		"weights":              {[]*configv1.Endpoint{{Host: "one.test", Port: 80, Weight: &weight}, {Host: "two.test", Port: 80}, {Host: "10.0.0.1", Port: 80}}, []string{"10.0.0.1:80 1", "127.0.0.2:80 1", "127.0.0.3:80 1", "127.0.0.4:80 3"}},
		"this machine":         {[]*configv1.Endpoint{{Host: "localhost", Port: 80}}, []string{"127.0.0.1:80 6"}},
		"a Unix socket beside": {[]*configv1.Endpoint{{Host: "unix:/a.sock"}, {Host: "one.test", Port: 80}}, []string{"127.0.0.4:80 3", "unix:/a.sock 3"}},
		"nothing":              {[]*configv1.Endpoint{{Host: "none.test", Port: 80}}, []string{"none 6"}},
	} {
		for _, discovered := range []bool{false, true} {
			r := resolving(t, "127.0.0.2 two.test\n127.0.0.3 two.test\n127.0.0.4 one.test\n10.0.0.2 both.test\n2001:db8::2 both.test\n")
			d := Definition{Service: &configv1.Service{Name: "s", LoadBalancerType: "weighted_round_robin", Endpoints: c.endpoints}}
			if discovered {
				d.Service.Endpoints, d.Service.Discovery = nil, &configv1.Discovery{}
			}
			r.Apply(map[string]Definition{"1": d}, nil)
			if discovered {
				r.ApplyEndpoints(map[string][]*configv1.Endpoint{"1": c.endpoints})
			}
			counts := map[string]int{}
			for range 6 {
				if e := r.Get("1").Pick(nil, nil); e == nil {
					counts["none"]++
				} else {
					counts[e.Address()]++
				}
			}
			var got []string
			for address, n := range counts {
				got = append(got, fmt.Sprint(address, " ", n))
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("%s, discovered %v: %v, want %v", name, discovered, got, c.want)
			}
		}
	}
}

// TestMovesCostWhatHasNames takes changed addresses over beside many services without names, as often as names of other
// services change.
func TestMovesCostWhatHasNames(t *testing.T) {
	r := resolving(t, "127.0.0.2 two.test\n127.0.0.3 two.test\n")
	at := func(name, host string) Definition {
		return Definition{Service: &configv1.Service{Name: name, Endpoints: []*configv1.Endpoint{{Host: host, Port: 80}}}}
	}
	services := map[string]Definition{"named": at("named", "two.test")}
	for i := range 500 {
		id := fmt.Sprint(i)
		services[id] = at(id, "127.0.0.1")
	}
	r.Apply(services, nil)
	if n := testing.AllocsPerRun(20, r.moved); n > 100 {
		t.Errorf("%v allocations, though one service of 501 has a name", n)
	}
}

// TestOtherLoopback has a service that listens on the loopback address of IPv6 only, as "localhost".
func TestOtherLoopback(t *testing.T) {
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("there is no IPv6:", err)
	}
	defer ln.Close()
	r := resolving(t, "")
	port := uint32(ln.Addr().(*net.TCPAddr).Port)
	r.Apply(map[string]Definition{"1": {Service: &configv1.Service{Name: "s", Endpoints: []*configv1.Endpoint{{Host: "localhost", Port: port}}}}}, nil)
	e := r.Get("1").Pick(nil, nil)
	now := time.Now()
	x := &exchange.Exchange{}
	x.Start, x.Now, x.Deadline, x.Down = now, now, now.Add(time.Minute), staying{}
	conn, err := e.Acquire(x, true)
	if err != nil {
		t.Fatal(err)
	}
	e.Release(conn, time.Now(), time.Now())
	if e.Host != "localhost" || !strings.HasPrefix(e.Address(), "127.0.0.1:") {
		t.Errorf("host %s, address %s", e.Host, e.Address())
	}
}

// TestNameInTLS asks for the name and verifies against it, whatever the address.
func TestNameInTLS(t *testing.T) {
	r := resolving(t, "127.0.0.2 two.test\n127.0.0.3 two.test\n")
	r.Apply(map[string]Definition{"1": {Service: &configv1.Service{Name: "s", Protocol: "https", Endpoints: []*configv1.Endpoint{{Host: "two.test", Port: 443}}}}}, nil)
	for range 2 {
		if e := r.Get("1").Pick(nil, nil); e.settings.Load().tls.ServerName != "two.test" || e.Authority() != "two.test" {
			t.Errorf("%s: server name %q, authority %q", e.Address(), e.settings.Load().tls.ServerName, e.Authority())
		}
	}
}

// staying is a client that does not go away.
type staying struct{ exchange.Downstream }

func (staying) Watch(exchange.Aborter) {}
