// Package listener accepts connections, agrees on TLS and a protocol with the client, and gives each connection a
// goroutine of its own. It knows how to stop accepting without refusing what has been accepted.
package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/dataplane/internal/telemetry"
)

// Server speaks a protocol.
type Server interface {
	// Serve owns a connection until it is closed, and then calls ended. It may return before, or after.
	Serve(sock *socket.Conn, peer *exchange.Peer, ended func())
	// Leave makes clients bring what they have next over other connections, without refusing anything.
	Leave()
	// Drain makes connections end as soon as nothing is under way on them.
	Drain()
	// Cut ends all connections at once.
	Cut()
}

// Listener serves one address.
type Listener struct {
	ln  net.Listener
	set Settings
	// mu orders the beginning of Serve before the end of the listener, or after it.
	mu       sync.Mutex
	closed   bool
	wg       sync.WaitGroup // of open connections, and of Serve
	refusals refusals
	panics   *telemetry.Panics
	// forwarding is the peers'.
	forwarding exchange.Forwarding
	// ended is over when those that have not come to a server yet are to be cut.
	ended context.Context
	end   context.CancelFunc
}

// Settings are how a listener treats connections. Listeners may share everything in them.
type Settings struct {
	Log     *slog.Logger
	Servers Servers
	// Counters counts connections.
	Counters *telemetry.Registry
	// Security is how TLS is spoken; nil: it isn't.
	Security *Security
	// Proxies are those whose word on clients is believed; nil: nobody.
	Proxies *exchange.Proxies
	// Forwarded are the fields that tell of clients, and RouteByForwardedHost makes the host among them the request's.
	Forwarded            exchange.ForwardedFields
	RouteByForwardedHost bool
	// ProxyProtocol says which connections begin with a header of the PROXY protocol, and HeaderTimeout how long that may
	// take.
	ProxyProtocol ProxyProtocol
	HeaderTimeout time.Duration
	// Limit bounds the number of connections; nil: nothing does.
	Limit *Limit
	// SocketMode is the mode of a Unix socket's file.
	SocketMode SocketMode
}

// Servers are the protocols.
type Servers struct {
	// HTTP1 serves what no other protocol was agreed on for.
	HTTP1 Server
	// HTTP2 serves what "h2" was agreed on for by ALPN; nil: nothing.
	HTTP2 Server
}

// each calls f for every server.
func (s *Servers) each(f func(Server)) {
	f(s.HTTP1)
	if s.HTTP2 != nil {
		f(s.HTTP2)
	}
}

// Listen opens an address such as ":8080" or "unix:/run/gateway.sock", as Bind does.
func Listen(address string, set Settings) (*Listener, error) {
	ln, err := Bind(address, set.SocketMode)
	if err != nil {
		return nil, fmt.Errorf("listen for proxied traffic: %w", err)
	}
	return serving(ln, set), nil
}

func serving(ln net.Listener, set Settings) *Listener {
	l := &Listener{ln: ln, set: set, panics: set.Counters.Panics(set.Log)}
	l.forwarding = exchange.Forwarding{Proxies: set.Proxies, Fields: set.Forwarded, RouteByHost: set.RouteByForwardedHost}
	l.ended, l.end = context.WithCancel(context.Background())
	return l
}

// Addr returns the address in use.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// URL returns the address with the scheme that is spoken on it.
func (l *Listener) URL() string {
	scheme, at := "http://", l.ln.Addr().String()
	if l.set.Security != nil {
		scheme = "https://"
	}
	if l.ln.Addr().Network() == "unix" {
		return scheme + unixPrefix + at
	}
	return scheme + at
}

// Serve accepts connections until Close. When the process has no descriptors left it waits for some to be free again.
func (l *Listener) Serve() {
	if !l.enter() {
		return
	}
	defer l.wg.Done()
	wait := time.Duration(0)
	for {
		nc, err := l.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			l.set.Log.Error("accept failed", "address", l.ln.Addr().String(), "error", err.Error(), "retry_in", wait.String())
			time.Sleep(wait)
			continue
		}
		wait = 0
		l.set.Counters.Connections(1)
		l.wg.Add(1)
		go l.begin(nc)
	}
}

// enter has Drain wait for Serve, and so for a connection that is accepted at the last moment. It reports whether the
// listener is still open.
func (l *Listener) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.wg.Add(1)
	}
	return !l.closed
}

// begin finds out who has connected and what is spoken, and serves it.
func (l *Listener) begin(nc net.Conn) {
	v := &visit{l: l}
	defer v.rescue(nc)
	if v.entered = l.set.Limit.enter(); !v.entered {
		l.refuse(nc, exchange.NewPeer(nc.RemoteAddr()), errTooMany)
		v.end()
		return
	}
	peer, err := l.identify(nc)
	v.peer, v.counted = peer, err == nil && countable(peer)
	if v.counted && !l.set.Limit.admit(peer.Client.Addr()) {
		v.counted, err = false, errTooManyOfOwner
	}
	if err != nil {
		l.refuse(nc, peer, err)
		v.end()
		return
	}
	if l.set.Security == nil {
		l.set.Servers.HTTP1.Serve(socket.New(nc), peer, v.end)
		return
	}
	conn, secured, err := l.set.Security.handshake(l.ended, nc, peer)
	l.set.Counters.Handshake(err == nil)
	if err != nil {
		_ = answerPlain(nc, err)
		_ = nc.Close()
		v.end()
		l.set.Log.Debug("TLS handshake failed", "client", peer.ClientText, "error", err.Error())
		return
	}
	// The handshake has grown the stack; what serves the connection for perhaps hours starts with a small one.
	go func() {
		defer v.rescue(conn)
		server := l.set.Servers.HTTP1
		if l.set.Servers.HTTP2 != nil && conn.ConnectionState().NegotiatedProtocol == "h2" {
			server = l.set.Servers.HTTP2
		}
		server.Serve(socket.New(conn), secured, v.end)
	}()
}

// countable reports whether a peer's connections are counted for its address. Those of trusted proxies are many
// clients', and so are those of Unix sockets, which have none.
func countable(peer *exchange.Peer) bool { return peer.Client.IsValid() && !peer.Trusted }

// Leave makes clients go elsewhere with what they have next, while everything is served that comes all the same.
// Listeners may share servers.
func Leave(listeners ...*Listener) {
	for _, l := range listeners {
		l.set.Servers.each(Server.Leave)
	}
}

// Close stops accepting. What was accepted goes on until Drain.
func Close(listeners ...*Listener) {
	for _, l := range listeners {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		_ = l.ln.Close()
	}
}

// Drain stops accepting on all listeners, lets what is under way end, and returns when no connection is left. When stop
// is closed, those that are left are cut. Listeners may share servers.
func Drain(stop <-chan struct{}, listeners ...*Listener) {
	Close(listeners...)
	for _, l := range listeners {
		l.set.Servers.each(Server.Drain)
	}
	done := make(chan struct{})
	go func() {
		for _, l := range listeners {
			l.wg.Wait()
		}
		close(done)
	}()
	select {
	case <-done:
	case <-stop:
		for _, l := range listeners {
			l.end()
			l.set.Servers.each(Server.Cut)
		}
		<-done
	}
}
