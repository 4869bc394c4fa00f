package http2

import (
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// The limits of a connection that no flag changes.
const (
	// maxStreams is how many requests a client is told that it may have under way.
	maxStreams = 128
	// maxExchanges is how many exchanges of one connection may be under way. One counts until it has ended here,
	// whatever the client has reset meanwhile, so that resets do not buy more work (CVE-2023-44487). It is more than
	// maxStreams, which bounds the streams that are open for the client: one that is at that limit opens the next
	// stream when it has read the end of a response, which may be just before its exchange has ended here.
	maxExchanges = 2 * maxStreams
	// streamWindow is how much of a request's body may wait for its exchange.
	streamWindow = 256 << 10
	// connWindow is how much of all bodies of a connection may be on its way here. What waits for the exchanges does
	// not count: it is bounded by the windows of the streams, so that those which are stuck do not hold up the others.
	connWindow = 1 << 20
	// connGrant is how much of all bodies has to have come before the peer is told that it may send as much anew.
	connGrant = connWindow / 4
	// maxPending is how much may wait to be sent before responses, and the reader, wait too.
	maxPending = 192 << 10
	// maxContinuations is how many frames a header list may be cut into besides the first (CVE-2024-27316).
	maxContinuations = 16
	// maxIdleFrames is how many frames that achieve nothing a connection may send: pings, settings, empty data, window
	// updates, whatever comes for streams that are over. Every second earns some, every exchange and every DATA frame
	// that is sent.
	maxIdleFrames    = 2000
	idleFramesRate   = 200
	earnedByExchange = 10
	earnedByData     = 4
	// updatesPerData is how many window updates every DATA frame that was sent pays for, however late they come:
	// clients that read in small pieces send two for each 4 KiB, and megabytes may be under way when they begin.
	updatesPerData = 10
	// maxResets is how many requests a client may break off that nothing was answered to, and that it has not waited
	// for waitedFor. Every second earns some, and every response one.
	maxResets  = 200
	resetsRate = 50
	waitedFor  = time.Second
	// lookAfter is how long nothing may come before it is looked whether the client has ended the connection: an end
	// that came together with bytes is not announced (see socket.Conn.Each), and its requests would go on.
	lookAfter = time.Second
	// settleTime is how long a client may take to say its first word, and one that was asked to open no more streams to
	// send what was under way.
	settleTime = time.Second
)

// Server serves connections. Its methods are safe for concurrent use.
type Server struct {
	limits   codec.Limits
	handler  codec.Handler
	panicked func(what, route string, v any) // nil: panics go on
	leaving  atomic.Bool                     // Leave or Drain was called
	draining atomic.Bool                     // Drain was
	shards   atomic.Uint32
	streams  sync.Pool

	mu    sync.Mutex
	conns map[*serverConn]struct{}
	cut   bool
}

// NewServer returns a server that gives every exchange to handler.
func NewServer(limits codec.Limits, handler codec.Handler) *Server {
	s := &Server{limits: limits, handler: handler, panicked: codec.PanicsOf(handler), conns: map[*serverConn]struct{}{}}
	s.streams.New = func() any { return newServerStream() }
	return s
}

// Serve owns a peer's connection until it is closed, and then calls ended. What the client has said may be buffered,
// from the preface on.
func (s *Server) Serve(sock *socket.Conn, peer *exchange.Peer, ended func()) {
	defer ended()
	sock.SetWritePace(socket.Pace{Least: s.limits.MinRate, Over: s.limits.WriteTimeout})
	c := newServerConn(s, sock, peer)
	if !s.add(c) {
		_ = sock.Close()
		return
	}
	defer s.remove(c)
	c.serve()
}

// Active returns the number of open connections.
func (s *Server) Active() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *Server) add(c *serverConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) remove(c *serverConn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// Leave asks clients to open no more streams (GOAWAY with the greatest id, RFC 9113 section 6.8). Those that they open
// all the same are served. A connection that comes later, or has not had a stream yet, is good for what its client
// opens until the last of its streams has ended: a client that was told sooner might connect again and again without
// ever asking anything.
func (s *Server) Leave() {
	s.leaving.Store(true)
	s.each(func(c *serverConn) { c.sock.Interrupt() })
}

// Drain does that of all connections, tells clients a second later which stream was the last, and ends each connection
// when what is under way on it has.
func (s *Server) Drain() {
	s.leaving.Store(true)
	s.draining.Store(true)
	s.each(func(c *serverConn) { c.sock.Interrupt() })
}

// Cut ends all connections, and those that come later, at once.
func (s *Server) Cut() {
	s.mu.Lock()
	s.cut = true
	s.mu.Unlock()
	s.each(func(c *serverConn) { c.kill(errCut) })
}

func (s *Server) each(f func(*serverConn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}
