// Package http1 speaks HTTP/1.1 on both sides of an exchange (RFC 9112): the client's, where it serves connections, and the
// service's, where it sends requests. Heads are parsed in place, bodies stream through, and whatever two readers could understand
// differently is refused. It does not know where a request goes.
package http1

import (
	"errors"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/inuse"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// Limits bound what a client may send and how long it may take. Every field is required.
type Limits struct {
	// MaxHeadBytes is the largest head, up to 64 KiB.
	MaxHeadBytes int
	// MaxTargetBytes is the longest request line.
	MaxTargetBytes int
	// MaxFields is the largest number of header fields.
	MaxFields int
	// HeadTimeout is the longest from a head's first byte to its last.
	HeadTimeout time.Duration
	// IdleTimeout is how long a connection may wait for a request.
	IdleTimeout time.Duration
	// BodyTimeout is the longest wait for more of a body.
	BodyTimeout time.Duration
	// WriteTimeout is the longest that a client may take nothing of a response.
	WriteTimeout time.Duration
	// MinRate is the least number of bytes a second that a client has to send of a body, averaged over BodyTimeout, and to take of a
	// response, averaged over WriteTimeout, while it is waited for; 0: any.
	MinRate int64
	// HalfClosed lets clients that have shut their side of the connection down wait for the response for as long as it takes. Otherwise they count as gone
	// after a second or two, since one that has closed the connection can't be told from them.
	HalfClosed bool
}

// DefaultLimits returns the limits of a node that was told nothing else.
func DefaultLimits() Limits {
	return Limits{
		MaxHeadBytes: 64 << 10, MaxTargetBytes: 8 << 10, MaxFields: 128,
		HeadTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second, BodyTimeout: time.Minute, WriteTimeout: time.Minute,
		MinRate: 100,
	}
}

// Handler takes an exchange from its parsed head to the last byte of its response, through x.Down.
type Handler interface {
	Serve(x *exchange.Exchange)
}

// Server serves connections. Its methods are safe for concurrent use.
type Server struct {
	limits   Limits
	handler  Handler
	draining atomic.Bool
	shards   atomic.Uint32
	// http2 takes connections over whose client begins with the preface of HTTP/2; nil: nobody does.
	http2 func(sock *socket.Conn, peer *exchange.Peer, ended func())
	// lot is where connections rest that nothing has come on for restless; nil: each waits in its goroutine.
	lot      *socket.Lot
	restless time.Duration
	// loops are where connections are served that are used often, by the starter; nil: each in its goroutine.
	loops     *socket.Loops
	starter   Starter
	joinAfter uint16

	mu    sync.Mutex
	conns map[*conn]struct{}
	cut   bool
}

// NewServer returns a server that gives every exchange to handler.
func NewServer(limits Limits, handler Handler) *Server {
	return &Server{limits: limits, handler: handler, conns: map[*conn]struct{}{}, restless: restless}
}

// restless is how long a connection waits for a request in its goroutine before it gives that up: one that is used more often than that is
// served at the least cost, one that is not takes little memory.
const restless = 2 * time.Second

// RestIn makes connections that nothing has come on for two seconds wait in a lot. It is called before the first Serve.
func (s *Server) RestIn(lot *socket.Lot) { s.lot = lot }

// HandOver makes serve own connections whose client speaks HTTP/2 with prior knowledge (RFC 9113 section 3.3); the preface is still buffered
// then. It is called before the first Serve.
func (s *Server) HandOver(serve func(sock *socket.Conn, peer *exchange.Peer, ended func())) {
	s.http2 = serve
}

// Active returns the number of open connections.
func (s *Server) Active() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Serve owns a peer's connection until it is closed, and then calls ended. It returns then, or, where the connection rests without a goroutine, before.
func (s *Server) Serve(sock *socket.Conn, peer *exchange.Peer, ended func()) {
	c := &conn{server: s, sock: sock, peer: peer, shard: s.shards.Add(1), endedFn: ended, joinAfter: s.joinAfter}
	c.arrivedFn = c.arrived
	c.body.over = true
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

// Drain lets every exchange that is under way end, with "Connection: close". An idle connection, or one that comes later, has a second to bring
// one more request, which may be on its way already.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.each(func(c *conn) {
		if c.idle.Load() {
			c.sock.Interrupt()
			c.roust()
		}
	})
	s.lot.WakeAll()
}

// Cut ends all connections, and those that come later, at once.
func (s *Server) Cut() {
	s.mu.Lock()
	s.cut = true
	s.mu.Unlock()
	s.each(func(c *conn) {
		c.sock.Abort()
		c.roust()
	})
	s.lot.WakeAll()
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

// conn is one client connection; it implements exchange.Downstream.
type conn struct {
	server     *Server
	sock       *socket.Conn
	peer       *exchange.Peer
	shard      uint32
	idle       atomic.Bool
	turns      atomic.Uint32 // how often an exchange has begun
	looked     uint32        // turns when Run last looked
	watch      watched
	arrivedFn  func() bool
	endedFn    func()
	rested     time.Time // since when it waits for a request
	quick      uint16    // how many simple requests have come in a row
	headLength int       // of the next head, when it is known
	ended      bool      // the connection is over
	blank      bool      // an empty line came before the next request
	served     bool      // a request has come
	http2      bool      // the client speaks HTTP/2

	msg       message
	body      body
	bodyErr   error
	cancelled atomic.Bool
	bodyless  bool // the response has no body, whatever its length says
	chunked   bool // the response is written in chunks
	begun     bool // a chunk was written
	whole     bool // the response was written at once
	close     bool // the connection ends after this exchange
	cut       bool // the response was not completed
	refused   bool // a head was not understood: nobody knows how much of it is to come
	writeErr  error
	x         *exchange.Exchange
	now       time.Time // when the last exchange ended

	// where says who is at the connection; what follows is for the time in a loop.
	where     atomic.Uint32
	joinAfter uint16 // how many simple requests in a row it takes to be served in a loop
	joined    uint32 // turns when it joined
	loop      *socket.Loop
	seating   sync.Mutex // protects seat
	seat      socket.Seat
	turned    atomic.Uint32 // turns at the last tick
	ticks     atomic.Uint32 // for how many ticks nothing has come
}

// run serves the connection until it rests or is over.
func (c *conn) run() {
	if c.serve() {
		return // wake goes on
	}
	c.server.remove(c)
	if c.http2 {
		c.server.http2(c.sock, c.peer, c.endedFn)
		return
	}
	c.endedFn()
}

// wake goes on with a connection that has rested.
func (c *conn) wake() {
	c.sock.ResumeReads()
	c.run()
}

// serve alternates between waiting, in which the connection holds neither buffer nor exchange, and serving what has arrived. It reports whether the
// connection has been parked; otherwise it is over.
func (c *conn) serve() (parked bool) {
	graced := false // the second that Drain gives is running
	for !c.ended {
		if len(c.sock.Buffered()) > 0 {
			c.serveBuffered()
			continue
		}
		if c.join() {
			return true
		}
		c.await(time.Now())
		if c.server.draining.Load() {
			if graced {
				break
			}
			graced = true
			c.sock.ResumeReads()
			c.sock.ReadWithin(time.Now(), lastRequest)
		}
		if err := c.sock.Each(c.arrivedFn); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) || c.sock.Aborted() {
				break // nobody waits for an answer
			}
			if c.server.draining.Load() {
				if graced {
					break
				}
				continue
			}
			now := time.Now()
			if now.Sub(c.rested) >= c.server.limits.IdleTimeout {
				break
			}
			if c.park() {
				return true
			}
			continue
		}
		c.serveBuffered()
	}
	if !c.http2 {
		c.end()
	}
	return false
}

// serveBuffered serves what has to be waited for in a way that Each can't: the rest of a head or of a body.
func (c *conn) serveBuffered() {
	c.idle.Store(false)
	for !c.ended && len(c.sock.Buffered()) > 0 {
		c.ended = !c.next()
	}
	c.rested = time.Time{}
}

// park lets the connection rest without this goroutine, where that is possible.
func (c *conn) park() bool {
	lot := c.server.lot
	// From here on the goroutine that wakes may be at it.
	id, ok := lot.Park(c.sock, c.rested.Add(c.server.limits.IdleTimeout), c.wake)
	if ok && (c.server.draining.Load() || c.sock.Aborted()) { // Drain or Cut may have been there before
		lot.Wake(id)
	}
	return ok
}

// lastRequest is how long a connection of a server that drains may wait for one more request.
const lastRequest = time.Second

// rest makes the connection wait for a request.
func (c *conn) rest(now time.Time) {
	c.rested = now
	c.await(now)
}

// await makes the connection wait for a request for as long as it may: in this goroutine at first, where it can be parked afterwards.
func (c *conn) await(now time.Time) {
	if c.rested.IsZero() {
		c.rested = now
	}
	c.sock.Release()
	c.sock.SetSize(socket.HeadSize)
	left := c.server.limits.IdleTimeout - now.Sub(c.rested)
	if c.server.lot != nil && left > c.server.restless {
		left = c.server.restless
	}
	c.sock.ReadWithin(now, max(left, time.Nanosecond))
	c.idle.Store(true)
}

// arrived serves the requests that have arrived whole. It returns false when there is more to wait for than the next
// request, or when the connection is over.
func (c *conn) arrived() bool {
	c.idle.Store(false)
	for len(c.sock.Buffered()) > 0 {
		if !c.complete() {
			return false
		}
		if !c.next() {
			c.ended = true
			return false
		}
	}
	c.rest(c.now)
	return !c.server.draining.Load() && !c.joins()
}

// complete reports whether the next request is buffered to its end, body included, as most are. It may say no where it is.
func (c *conn) complete() bool {
	c.skipEmptyLine()
	have := c.sock.Buffered()
	n := headEnd(have, 0)
	if n == 0 {
		return false
	}
	c.headLength = n
	switch length, simple := peekLength(have[:n]); {
	case !simple:
		return false
	default:
		return length <= len(have)-n
	}
}

// prefaceHead is the part of the preface of HTTP/2 that looks like a head (RFC 9113 section 3.4).
const prefaceHead = "PRI * HTTP/2.0\r\n\r\n"

// next serves one request and reports whether another may follow.
func (c *conn) next() bool {
	x := c.open()
	if x == nil {
		return false
	}
	c.server.handler.Serve(x)
	return c.over()
}

// open reads a request's head for the handler to serve; nil: there is none to serve, and none will follow.
func (c *conn) open() *exchange.Exchange {
	head, err := c.readHead()
	if err != nil {
		c.refuseHead(err)
		return nil
	}
	if !c.served && c.server.http2 != nil && len(head) == len(prefaceHead) && string(head) == prefaceHead {
		c.http2 = true
		return nil
	}
	x := takeExchange()
	c.begin(x)
	if err := c.parse(x, head); err != nil {
		c.refuse(x, err)
	}
	return x
}

// over ends the exchange, which the handler has served, and reports whether another may follow.
func (c *conn) over() bool {
	x := c.x
	if c.msg.connect && !x.Response.Tunnel {
		c.refused = true
	}
	if !c.body.over {
		// What is left of the body would be taken for the next request.
		c.close = true
	}
	if c.whole && x.Now.Sub(x.Start) < patience {
		c.quick = min(c.quick+1, maxJoinAfter)
	} else {
		c.quick = 0
	}
	c.now, c.x = x.Now, nil
	giveExchange(x)
	c.body.release()
	return !c.close && !c.cut && c.writeErr == nil
}

// readHead returns a whole head, waiting for what is not buffered.
func (c *conn) readHead() ([]byte, error) {
	c.skipEmptyLine()
	have := c.sock.Buffered()
	n := c.headLength
	c.headLength = 0
	if n == 0 {
		n = headEnd(have, 0)
	}
	if n > 0 && n <= c.server.limits.MaxHeadBytes {
		return have[:n], nil
	}
	return c.readRest()
}

// skipEmptyLine takes one empty line before the request line away, as a robust server does (RFC 9112 section 2.2).
func (c *conn) skipEmptyLine() {
	have := c.sock.Buffered()
	if len(have) >= 2 && have[0] == '\r' && have[1] == '\n' && !c.blank {
		c.sock.Consume(2)
		c.blank, c.headLength = true, 0
	}
}

// readRest goes on with a head that did not come at once.
func (c *conn) readRest() ([]byte, error) {
	lim := &c.server.limits
	c.sock.Compact()
	now := time.Now()
	until := now.Add(lim.HeadTimeout)
	for {
		c.skipEmptyLine()
		have := c.sock.Buffered()
		if n := headEnd(have, 0); n > 0 {
			if n > lim.MaxHeadBytes {
				return nil, &refusal{Code: fault.HeadersTooLarge, Reason: "the head is larger than " + strconv.Itoa(lim.MaxHeadBytes) + " bytes"}
			}
			return have[:n], nil
		}
		if len(have) >= lim.MaxHeadBytes {
			return nil, &refusal{Code: fault.HeadersTooLarge, Reason: "the head is larger than " + strconv.Itoa(lim.MaxHeadBytes) + " bytes"}
		}
		if len(have) > 0 && len(have) > lim.MaxTargetBytes && indexByte(view(have[:lim.MaxTargetBytes]), '\n') < 0 {
			return nil, &refusal{Code: fault.URITooLong, Reason: "the request line is longer than " + strconv.Itoa(lim.MaxTargetBytes) + " bytes"}
		}
		if c.sock.Cap() > 0 && c.sock.Room() == 0 {
			size := socket.BodySize
			if c.sock.Cap() >= size.Bytes() {
				size = socket.LargeSize
			}
			socket.Give(c.sock.Grow(size))
		}
		now = time.Now()
		c.sock.ReadWithin(now, max(until.Sub(now), time.Nanosecond))
		if err := c.sock.Fill(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && !c.server.draining.Load() {
				return nil, &refusal{Code: fault.RequestTimeout, Reason: "the head did not come in time"}
			}
			return nil, io.EOF
		}
	}
}

// refuseHead answers what could not be read as a head, where somebody waits for an answer.
func (c *conn) refuseHead(err error) {
	var r *refusal
	if !errors.As(err, &r) {
		return
	}
	x := takeExchange()
	c.begin(x)
	c.refuse(x, r)
	c.server.handler.Serve(x)
	giveExchange(x)
}

// refuse sets the response to what was not understood, after which the connection ends.
func (c *conn) refuse(x *exchange.Exchange, r *refusal) {
	c.close, c.refused = true, true
	x.Fail(r.Code, r.Reason)
	x.Request.Header.Reset()
	x.ID = ""
}

// begin makes the exchange this connection's.
func (c *conn) begin(x *exchange.Exchange) {
	c.served = true
	c.turns.Add(1)
	x.From(c.peer)
	x.Down, x.Shard = c, c.shard
	x.Start = time.Now()
	x.Now = x.Start
	c.bodyErr, c.bodyless, c.chunked, c.begun, c.cut, c.writeErr = nil, false, false, false, false, nil
	c.x, c.whole = x, false
	c.body.start(0, false, false)
	if c.cancelled.Load() {
		c.cancelled.Store(false)
	}
}

// parse reads the head into the exchange and prepares for its body.
func (c *conn) parse(x *exchange.Exchange, head []byte) *refusal {
	c.blank = false
	m, err := parseRequest(head, x, c.server.limits.MaxFields)
	c.sock.Consume(len(head))
	if err == nil && len(x.Request.Path)+len(x.Request.RawQuery) > c.server.limits.MaxTargetBytes {
		err = &refusal{Code: fault.URITooLong, Reason: "the request target is longer than " + strconv.Itoa(c.server.limits.MaxTargetBytes) + " bytes"}
	}
	if err != nil {
		return err
	}
	c.msg = m
	c.close = !m.persistent()
	c.body.pace = socket.Pace{Least: c.server.limits.MinRate, Over: c.server.limits.BodyTimeout}
	c.body.start(x.Request.ContentLength, m.chunked, true)
	return nil
}

// end closes the connection. When the client may still be sending, what it sends is read for a moment: a reset
// would take the response away from it (RFC 9112 section 9.6).
func (c *conn) end() {
	if c.cut {
		c.sock.Reset()
	} else if !c.body.over || c.refused || len(c.sock.Buffered()) > 0 {
		c.linger()
	}
	_ = c.sock.Close()
}

const (
	lingerTime  = 2 * time.Second
	lingerBytes = 256 << 10
)

func (c *conn) linger() {
	if c.writeErr != nil || c.sock.CloseWrite() != nil {
		return
	}
	c.sock.ResumeReads()
	until := time.Now().Add(lingerTime)
	for read := 0; read < lingerBytes; {
		now := time.Now()
		if !now.Before(until) {
			return
		}
		n := len(c.sock.Buffered())
		read += n
		c.sock.Consume(n)
		c.sock.Rewind()
		c.sock.ReadWithin(now, until.Sub(now))
		if c.sock.Fill() != nil {
			return
		}
	}
}

// LimitBody implements exchange.Downstream.
func (c *conn) LimitBody(bytes int64) { c.body.max = bytes }

// BufferedBody implements exchange.Downstream.
func (c *conn) BufferedBody() ([]byte, bool, error) {
	if c.body.over {
		return nil, true, nil
	}
	part, err := c.body.take(c.sock, &c.x.Request.Trailer, c.server.limits.MaxFields)
	if err != nil {
		c.bodyErr = err
		return nil, false, err
	}
	return part, c.body.over, nil
}

// NextBody implements exchange.Downstream.
func (c *conn) NextBody() ([]byte, error) {
	if c.bodyErr != nil {
		return nil, c.bodyErr
	}
	if c.cancelled.Load() {
		return nil, os.ErrDeadlineExceeded
	}
	part, err := c.nextPart()
	if err != nil && err != io.EOF {
		if errors.Is(err, os.ErrDeadlineExceeded) && !c.cancelled.Load() {
			err = &refusal{Code: fault.RequestTimeout, Reason: "the body did not come in time"}
		}
		c.bodyErr = err
	}
	return part, err
}

// CancelBody implements exchange.Downstream.
func (c *conn) CancelBody() {
	c.cancelled.Store(true)
	c.sock.Interrupt()
}

// WriteInterim implements exchange.Downstream.
func (c *conn) WriteInterim(status int, header *exchange.Header, head []byte) error {
	if c.msg.http10 {
		return nil // RFC 9110 section 15.2: such clients do not know them
	}
	room := socket.Take(socket.HeadSize)
	b := appendStatusLine(room[:0], status, "")
	b = appendFields(b, head, header, skipResponse)
	b = append(b, "\r\n"...)
	err := c.write(time.Now(), b, nil)
	socket.Give(room) // b may have grown out of it
	return err
}

func (c *conn) write(now time.Time, a, b []byte) error {
	if c.writeErr == nil {
		if c.where.Load() == apart { // it does not wait in a loop
			c.sock.WriteWithin(now, c.server.limits.WriteTimeout)
		}
		c.writeErr = c.sock.Write(a, b)
	}
	return c.writeErr
}

// WriteHead implements exchange.Downstream.
func (c *conn) WriteHead(x *exchange.Exchange, part []byte, last bool) error {
	res := &x.Response
	if c.server.draining.Load() || last && !c.body.over {
		c.close = true // nobody waits for the rest of the request
	}
	if res.Local {
		x.Tick() // it may be long since the request came
	}
	room := socket.Take(socket.HeadSize)
	b := appendStatusLine(room[:0], res.Status, res.Reason)
	b = appendFields(b, res.Head, &res.Header, skipResponse)
	if _, dated := res.Header.Known(exchange.Date); !dated {
		b = appendDate(b)
	}
	if res.Local && x.ID != "" {
		b = appendField(b, "X-Request-Id", x.ID)
	}
	b = c.appendFraming(b, x, part, last)
	switch {
	case c.close:
		b = append(b, "Connection: close\r\n"...)
	case c.msg.http10:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	b = append(b, "\r\n"...)
	if c.bodyless {
		part = nil
	}
	c.whole = last
	var err error
	switch {
	case c.chunked:
		err = c.writeChunk(x, x.Now, b, part, last)
	case len(b)+len(part) <= cap(b):
		err = c.write(x.Now, append(b, part...), nil)
	default:
		err = c.write(x.Now, b, part)
	}
	socket.Give(room) // b may have grown out of it
	return err
}

// appendFraming says how long the body is (RFC 9112 section 6).
func (c *conn) appendFraming(b []byte, x *exchange.Exchange, part []byte, last bool) []byte {
	res := &x.Response
	length := res.ContentLength
	switch {
	case res.Status == 204:
		c.bodyless = true
		return b
	case x.Request.Method == "HEAD" || res.Status == 304:
		// The length that a GET would have had, if it is known.
		c.bodyless = true
		if v, ok := res.Header.Known(exchange.ContentLength); ok && !res.Local {
			return appendField(b, "Content-Length", v)
		} else if !res.Local {
			return b
		}
	case length < 0 && last && res.Trailer.Len() == 0:
		length = int64(len(part))
	case length < 0 && c.msg.http10:
		c.close = true
		return b
	case length < 0:
		c.chunked = true
		return append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, length, 10)
	return append(b, "\r\n"...)
}

// WriteBody implements exchange.Downstream.
func (c *conn) WriteBody(x *exchange.Exchange, part []byte, last bool) error {
	switch {
	case c.bodyless:
		return c.writeErr
	case c.chunked:
		b := socket.Take(socket.HeadSize)[:0]
		err := c.writeChunk(x, time.Now(), b, part, last)
		socket.Give(b)
		return err
	case len(part) == 0:
		return c.writeErr
	}
	return c.write(time.Now(), part, nil)
}

// takesRaw reports whether the rest of the response's body may be written past WriteBody.
func (c *conn) takesRaw() bool { return !c.chunked && !c.bodyless && c.writeErr == nil }

// writeChunk appends to b, and sends, a chunk and, at the end, the last chunk with the trailers. The CRLF after a chunk goes
// with what follows it, so that a chunk takes one system call.
func (c *conn) writeChunk(x *exchange.Exchange, now time.Time, b, part []byte, last bool) error {
	if len(part) > 0 {
		if c.begun {
			b = append(b, "\r\n"...)
		}
		c.begun = true
		b = strconv.AppendUint(b, uint64(len(part)), 16)
		b = append(b, "\r\n"...)
		if len(b)+len(part) <= cap(b) {
			b = append(b, part...)
		} else {
			if err := c.write(now, b, part); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	if !last {
		if len(b) > 0 {
			return c.write(now, b, nil)
		}
		return c.writeErr
	}
	if c.begun {
		b = append(b, "\r\n"...)
	}
	b = append(b, "0\r\n"...)
	b = appendTrailers(b, &x.Response.Trailer)
	b = append(b, "\r\n"...)
	return c.write(now, b, nil)
}

// Abort implements exchange.Downstream.
func (c *conn) Abort() { c.cut = true }
