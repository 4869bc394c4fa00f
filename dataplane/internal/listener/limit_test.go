package listener

import (
	"errors"
	"io"
	"net/netip"
	"syscall"
	"testing"

	"gateway.internal/shared/waittest"
)

// refused reports whether a connection from an address is reset, and fails where anything else happens.
func (r *running) refused(ip string) bool {
	r.t.Helper()
	c, err := r.dial(ip)
	if err == nil {
		_, err = io.ReadAll(c)
	}
	return errors.Is(err, syscall.ECONNRESET)
}

func TestMaxConnections(t *testing.T) {
	r := run(t, "127.0.0.1:0", Settings{Limit: NewLimit(2, 0)})
	first := r.from("127.0.0.1")
	r.from("127.0.0.2")
	waittest.Until(t, "both", func() bool { return r.set.Limit.open.Load() == 2 })
	if !r.refused("127.0.0.3") {
		t.Error("a third connection is not refused")
	}
	waittest.Until(t, "the count", func() bool { return r.metric("gateway_connections_refused_total", "max_connections") == 1 })
	_ = first.Close()
	waittest.Until(t, "the end", func() bool { return r.set.Limit.open.Load() == 1 })
	if got, err := r.ask("127.0.0.3", "a\n"); got != `127.0.0.3 http "a\n"` {
		t.Errorf("%q, %v", got, err)
	}
}

func TestMaxConnectionsPerClient(t *testing.T) {
	r := run(t, "127.0.0.1:0", Settings{Limit: NewLimit(0, 1), Proxies: proxies(t, "127.0.0.9"), ProxyProtocol: ProxyProtocolAccept, HeaderTimeout: waittest.Limit})
	first := r.from("127.0.0.1")
	waittest.Until(t, "the connection", func() bool { return !r.set.Limit.free(netip.MustParseAddr("127.0.0.1")) })
	if !r.refused("127.0.0.1") {
		t.Error("a second connection is not refused")
	}
	waittest.Until(t, "the count", func() bool { return r.metric("gateway_connections_refused_total", "max_connections_per_client") == 1 })
	// Clients behind a proxy are counted one by one, and the proxy is not.
	for _, header := range []string{text4, local2, local2} {
		if _, err := io.WriteString(r.from("127.0.0.9"), header+"waits"); err != nil {
			t.Fatal(err)
		}
	}
	waittest.Until(t, "the proxied connection", func() bool { return !r.set.Limit.free(netip.MustParseAddr("192.0.2.7")) })
	if got, err := r.ask("127.0.0.9", text4+"a\n"); got != "" || err == nil {
		t.Errorf("a second one of a proxied client: %q, %v", got, err)
	}
	_ = first.Close()
	waittest.Until(t, "the end", func() bool { return r.set.Limit.free(netip.MustParseAddr("127.0.0.1")) })
	if got, err := r.ask("127.0.0.1", "a\n"); got != `127.0.0.1 http "a\n"` {
		t.Errorf("%q, %v", got, err)
	}
}

// free reports whether nothing is counted for a client.
func (l *Limit) free(client netip.Addr) bool {
	o := clientKeyOf(client)
	s := l.shard(&o)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[o] == 0
}

func TestIPv6IsCountedBy64Bits(t *testing.T) {
	l := NewLimit(0, 1)
	if !l.admit(netip.MustParseAddr("2001:db8::1")) || l.admit(netip.MustParseAddr("2001:db8::2")) || !l.admit(netip.MustParseAddr("2001:db8:0:1::1")) {
		t.Error("not one for each /64")
	}
	if !l.admit(netip.MustParseAddr("192.0.2.1")) || !l.admit(netip.MustParseAddr("192.0.2.2")) || l.admit(netip.MustParseAddr("::ffff:192.0.2.1")) {
		t.Error("not one for each IPv4 address")
	}
}

func TestMemoryOfClientsIsGivenBack(t *testing.T) {
	l := NewLimit(0, 3)
	const clients = 100_000
	each := func(f func(netip.Addr)) {
		for i := range clients {
			f(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		}
	}
	each(func(a netip.Addr) { l.admit(a) })
	each(l.dismiss)
	for i := range l.clients {
		if l.clients[i].open != nil {
			t.Fatalf("shard %d keeps its memory", i)
		}
	}
}
