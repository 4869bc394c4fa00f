// Package http1 speaks HTTP/1.1 on both sides of an exchange (RFC 9112): the client's, where it serves connections, and
// the service's, where it sends requests. Heads are parsed in place, bodies stream through, and whatever two readers
// could understand differently is refused. It does not know where a request goes.
package http1

import (
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/inuse"
	"gateway.internal/dataplane/internal/socket"
)

// Server serves connections. Its methods are safe for concurrent use.
type Server struct {
	limits   codec.Limits
	handler  codec.Handler
	panicked func(what, route string, v any) // nil: panics go on
	leaving  atomic.Bool                     // Leave or Drain was called
	draining atomic.Bool                     // Drain was
	shards   atomic.Uint32
	// http2 takes connections over whose client begins with the preface of HTTP/2; nil: nobody does.
	http2 func(sock *socket.Conn, peer *exchange.Peer, ended func())
	// idleConns watches the connections that were idle for parkAfter; nil: each waits in its goroutine.
	idleConns *socket.IdleConns
	parkAfter time.Duration
	// loops are where connections are served that are used often, by the loop handler; nil: each in its goroutine.
	loops       *socket.Loops
	loopHandler codec.LoopHandler
	joinAfter   uint16
	lingering   lingering

	mu    sync.Mutex
	conns map[*conn]struct{}
	cut   bool
}

// NewServer returns a server that gives every exchange to handler.
func NewServer(limits codec.Limits, handler codec.Handler) *Server {
	s := &Server{limits: limits, handler: handler, conns: map[*conn]struct{}{}, parkAfter: parkAfter}
	s.panicked = codec.PanicsOf(handler)
	s.lingering.total, s.lingering.idle, s.lingering.most = lingerTime, lingerIdle, maxLingering
	return s
}

// parkAfter is how long a connection waits for a request in its goroutine before it is parked: one that is used more
// often than that is served at the least cost, one that is not takes little memory.
const parkAfter = 2 * time.Second

// ParkIn makes connections that were idle for two seconds wait in idle, without a goroutine. It is called before the
// first Serve.
func (s *Server) ParkIn(idle *socket.IdleConns) { s.idleConns = idle }

// HandOver makes serve own connections whose client speaks HTTP/2 with prior knowledge (RFC 9113 section 3.3); the
// preface is still buffered then. It is called before the first Serve.
func (s *Server) HandOver(serve func(sock *socket.Conn, peer *exchange.Peer, ended func())) {
	s.http2 = serve
}

// Active returns the number of open connections.
func (s *Server) Active() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Serve owns a peer's connection until it is closed, and then calls ended. It returns then, or, where the connection is
// parked, before.
func (s *Server) Serve(sock *socket.Conn, peer *exchange.Peer, ended func()) {
	c := &conn{server: s, sock: sock, peer: peer, shard: s.shards.Add(1), endedFn: ended}
	c.place.joinAfter = s.joinAfter
	c.arrivedFn = c.arrived
	c.req.body.over = true
	c.sock.SetWritePace(socket.Pace{Least: s.limits.MinRate, Over: s.limits.WriteTimeout})
	if !s.add(c) {
		_ = c.sock.Close()
		ended()
		return
	}
	c.run()
}

func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// Leave makes every response from now on the last one of its connection, with "Connection: close". Connections that
// wait for a request, and those that come later, go on waiting.
func (s *Server) Leave() { s.leaving.Store(true) }

// Drain lets every exchange that is under way end, with "Connection: close". An idle connection, or one that comes
// later, has LastRequestTimeout to bring one more request, which may be on its way already.
func (s *Server) Drain() {
	s.leaving.Store(true)
	s.draining.Store(true)
	s.each(func(c *conn) {
		if c.idle.Load() || c.place.state.Load() == idleInLoop {
			c.sock.Interrupt()
			c.evict()
		}
	})
	s.idleConns.WakeAll()
}

// Cut ends all connections, and those that come later, at once.
func (s *Server) Cut() {
	s.mu.Lock()
	s.cut = true
	s.mu.Unlock()
	s.each(func(c *conn) {
		c.sock.Abort()
		c.evict()
	})
	s.idleConns.WakeAll()
}

func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}

// exchanges are pooled: an idle connection has none.
var exchanges = sync.Pool{New: func() any { return new(exchange.Exchange) }}

// ExchangesInUse counts the exchanges that are under way.
var ExchangesInUse inuse.Counter

func takeExchange() *exchange.Exchange {
	ExchangesInUse.Add(1)
	return exchanges.Get().(*exchange.Exchange)
}

func giveExchange(x *exchange.Exchange) {
	x.Reset()
	exchanges.Put(x)
	ExchangesInUse.Add(-1)
}
