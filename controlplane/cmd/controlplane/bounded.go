package main

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"gateway.internal/shared/fair"
)

const (
	// maxAdminConnections is how many connections REST and the admin API over gRPC may have, each.
	maxAdminConnections = 2_000
	// maxNodeConnections is how many connections nodes may have: two of each node that a control plane may have.
	maxNodeConnections = 20_000
)

// bounded is a listener that takes no more connections than it may have. Addresses share these, so that none takes all:
// IPv4 addresses, and the /64s of IPv6.
type bounded struct {
	net.Listener
	log *slog.Logger

	mu   sync.Mutex
	open *fair.Share[netip.Prefix]
	full bool // which was logged
}

func bound(ln net.Listener, most int, log *slog.Logger) net.Listener {
	return &bounded{Listener: ln, log: log, open: fair.New[netip.Prefix](most)}
}

// Accept implements net.Listener. A connection that there is no place for is closed.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		of := networkOf(conn.RemoteAddr())
		b.mu.Lock()
		taken := b.open.Take(of)
		tell := !taken && !b.full
		b.full = !taken
		b.mu.Unlock()
		if taken {
			return &boundedConn{Conn: conn, end: sync.OnceFunc(func() { b.give(of) })}, nil
		}
		if tell {
			b.log.Warn("connections are refused: an address, or all together, have as many as they may",
				"listener", b.Addr().String(), "address", conn.RemoteAddr().String())
		}
		_ = conn.Close()
	}
}

func (b *bounded) give(of netip.Prefix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open.Give(of)
}

// networkOf is what a client has all of.
func networkOf(address net.Addr) netip.Prefix {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	a := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// boundedConn gives its place back when it is closed.
type boundedConn struct {
	net.Conn
	end func()
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	defer c.end()
	return c.Conn.Close()
}
