package http2

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// conn is one client connection. One goroutine reads; exchanges run in their own.
type conn struct {
	server *Server
	sock   *socket.Conn
	peer   *exchange.Peer
	shard  uint32

	// The reading goroutine's.
	decoder    *hpack.Decoder
	list       list
	arrivedFn  func() bool
	greeted    bool // the preface was read
	settled    bool // and the first SETTINGS
	lastID     uint32
	block      []byte // a header list that is not complete, of the stream blockID
	blockID    uint32
	blockEnd   bool // its HEADERS frame ended the stream
	blockParts int
	window     int64 // what the client may still send on the connection
	ended      error // why reading is over; codeNo: in peace
	leaving    int   // how far draining has come: 1: asked, 2: told the last stream
	budgetAt   time.Time

	mu         sync.Mutex
	streams    map[uint32]*stream
	peerWindow int64 // of new streams
	sendWindow int64
	unacked    int // consumed of all bodies, and not yet granted anew
	granted    int64
	tableSized bool
	out        output
	err        error // nothing can be sent any more
	forgotten  [32]uint32
	nForgotten int
	budget     int // idle frames that may still come
	resets     int // resets that may still come
	readerRoom chan struct{}
	running    sync.WaitGroup
}

func newConn(s *Server, sock *socket.Conn, peer *exchange.Peer) *conn {
	c := &conn{
		server: s, sock: sock, peer: peer, shard: s.shards.Add(1), window: connWindow, streams: map[uint32]*stream{},
		peerWindow: initialWindow, sendWindow: initialWindow, budget: maxIdleFrames, resets: maxResets, readerRoom: make(chan struct{}, 1),
		list: list{maxBytes: s.limits.MaxHeadBytes, maxFields: s.limits.MaxFields},
	}
	c.decoder = hpack.NewDecoder(4096, c.list.add)
	c.decoder.SetMaxStringLength(s.limits.MaxHeadBytes)
	c.arrivedFn = c.arrived
	return c
}

// serve says hello, and reads until the connection is over.
func (c *conn) serve() {
	c.mu.Lock()
	b := appendFrameHead(c.out.buf(), 18, frameSettings, 0, 0)
	b = appendSetting(b, settingMaxConcurrentStreams, maxStreams)
	b = appendSetting(b, settingInitialWindowSize, streamWindow)
	b = appendSetting(b, settingMaxHeaderListSize, uint32(c.server.limits.MaxHeadBytes))
	c.out.pending = appendWindowUpdate(b, 0, connWindow-initialWindow)
	c.mu.Unlock()
	c.flush()
	if len(c.sock.Buffered()) > 0 {
		c.arrived()
	}
	c.wait(c.server.limits.HeadTimeout)
	if c.server.draining.Load() {
		c.wait(settleTime)
	}
	for c.ended == nil {
		if err := c.sock.Each(c.arrivedFn); err != nil && !c.goesOn(err) {
			break
		}
	}
	c.end()
}

// goesOn decides what the end of a wait means.
func (c *conn) goesOn(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.ended = err
		return false
	}
	c.mu.Lock()
	idle, dead := len(c.streams) == 0, c.err != nil
	c.mu.Unlock()
	switch {
	case dead:
		c.ended = c.err
		return false
	case c.server.draining.Load():
		return c.leave(idle)
	case idle:
		c.ended = codeNo
		return false
	}
	c.wait(c.server.limits.IdleTimeout) // exchanges are under way
	return true
}

// leave goes through the steps of a graceful end (RFC 9113 section 6.8): the client is asked to open no more streams; what it opened before
// it heard is served; then it is told which stream was the last.
func (c *conn) leave(idle bool) bool {
	switch c.leaving {
	case 0:
		c.leaving = 1
		c.send(appendGoAway(nil, maxWindow, codeNo))
	case 1:
		c.leaving = 2
		c.send(appendGoAway(nil, c.lastID, codeNo))
	}
	if c.leaving == 2 && idle {
		c.ended = codeNo
		return false
	}
	c.sock.ResumeReads()
	c.wait(settleTime)
	return true
}

// wait sets how long the next bytes may take, and gives the buffer back when nothing is in it.
func (c *conn) wait(d time.Duration) {
	c.sock.Release()
	c.sock.SetSize(socket.BodySize)
	c.sock.ReadWithin(time.Now(), d)
}

// arrived takes in the frames that have come whole. It returns false when the connection is over.
func (c *conn) arrived() bool {
	if err := c.frames(); err != nil {
		c.ended = err
		return false
	}
	c.flush()
	switch {
	case len(c.sock.Buffered()) == 0:
		c.sock.Release()
	default:
		c.sock.Compact()
		if c.sock.Room() == 0 {
			socket.Give(c.sock.Grow(socket.BodySize))
		}
	}
	if c.greeted && c.leaving == 0 {
		c.sock.ReadWithin(time.Now(), c.server.limits.IdleTimeout)
	}
	return true
}

func (c *conn) frames() error {
	if !c.greeted {
		have := c.sock.Buffered()
		n := min(len(have), len(preface))
		if string(have[:n]) != preface[:n] {
			return codeProtocol
		}
		if n < len(preface) {
			return nil
		}
		c.sock.Consume(n)
		c.greeted = true
	}
	for {
		have := c.sock.Buffered()
		if len(have) < frameHeadBytes {
			return nil
		}
		h := parseFrameHead(have)
		if h.length > maxFrameBytes {
			return codeFrameSize
		}
		if len(have) < frameHeadBytes+h.length {
			return nil
		}
		if err := c.frame(&h, have[frameHeadBytes:frameHeadBytes+h.length]); err != nil {
			return err
		}
		c.sock.Consume(frameHeadBytes + h.length)
	}
}

// frame takes one frame in. What it returns ends the connection.
func (c *conn) frame(h *frameHead, payload []byte) error {
	switch {
	case !c.settled && (h.kind != frameSettings || h.has(flagAck)):
		return codeProtocol
	case c.blockID != 0 && (h.kind != frameContinuation || h.stream != c.blockID):
		return codeProtocol
	}
	switch h.kind {
	case frameData:
		return c.data(h, payload)
	case frameHeaders:
		return c.headers(h, payload)
	case frameContinuation:
		return c.continuation(h, payload)
	case frameReset:
		return c.resetByClient(h, payload)
	case frameWindowUpdate:
		return c.windowUpdate(h, payload)
	}
	if err := c.spend(); err != nil {
		return err
	}
	switch h.kind {
	case frameSettings:
		return c.settings(h, payload)
	case framePing:
		return c.ping(h, payload)
	case framePriority:
		switch {
		case h.stream == 0:
			return codeProtocol
		case h.length != 5:
			return c.refuseStream(h.stream, codeFrameSize)
		case binary.BigEndian.Uint32(payload)&maxWindow == h.stream:
			return c.refuseStream(h.stream, codeProtocol)
		}
	case framePushPromise:
		return codeProtocol
	case frameGoAway:
		if h.stream != 0 || h.length < 8 {
			return codeProtocol
		}
	default: // RFC 9113 section 4.1: unknown types are ignored
	}
	return nil
}

// spend counts a frame that achieves nothing. A client that sends too many of them is told to calm down.
func (c *conn) spend() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.budget--; c.budget > 0 {
		return nil
	}
	now := time.Now()
	if since := now.Sub(c.budgetAt); since >= time.Second {
		c.budgetAt = now
		c.budget = maxIdleFrames / 10
		return nil
	}
	return codeEnhanceCalm
}

// earn allows some more frames that achieve nothing. The mutex is held.
func (c *conn) earn(n int) { c.budget = min(c.budget+n, maxIdleFrames) }

func (c *conn) settings(h *frameHead, payload []byte) error {
	switch {
	case h.stream != 0:
		return codeProtocol
	case h.has(flagAck):
		if h.length != 0 {
			return codeFrameSize
		}
		return nil
	case h.length%6 != 0:
		return codeFrameSize
	}
	c.settled = true
	c.mu.Lock()
	defer c.mu.Unlock()
	for ; len(payload) > 0; payload = payload[6:] {
		value := binary.BigEndian.Uint32(payload[2:])
		switch binary.BigEndian.Uint16(payload) {
		case settingEnablePush:
			if value > 1 {
				return codeProtocol
			}
		case settingInitialWindowSize:
			if value > maxWindow {
				return codeFlowControl
			}
			by := int64(value) - c.peerWindow
			c.peerWindow = int64(value)
			for _, s := range c.streams {
				if s.sendWindow += by; s.sendWindow > maxWindow {
					return codeFlowControl
				}
				wake(s.writable)
			}
		case settingMaxFrameSize:
			if value < maxFrameBytes || value > 1<<24-1 {
				return codeProtocol
			}
		}
	}
	c.out.pending = appendFrameHead(c.out.buf(), 0, frameSettings, flagAck, 0)
	return c.waitForRoom()
}

func (c *conn) ping(h *frameHead, payload []byte) error {
	switch {
	case h.stream != 0:
		return codeProtocol
	case h.length != 8:
		return codeFrameSize
	case h.has(flagAck):
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.pending = append(appendFrameHead(c.out.buf(), 8, framePing, flagAck, 0), payload...)
	return c.waitForRoom()
}

// waitForRoom keeps a client that does not take our answers from making them pile up: it is not read from meanwhile. The mutex is held.
func (c *conn) waitForRoom() error {
	for len(c.out.pending) >= maxPending && c.err == nil {
		c.out.reader = true
		c.mu.Unlock()
		c.flush()
		<-c.readerRoom
		c.mu.Lock()
	}
	return nil
}

func (c *conn) windowUpdate(h *frameHead, payload []byte) error {
	if h.length != 4 {
		return codeFrameSize
	}
	if err := c.spend(); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(payload) & maxWindow)
	if h.stream == 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if n == 0 {
			return codeProtocol
		}
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return codeFlowControl
		}
		c.room()
		return nil
	}
	if h.stream > c.lastID {
		return codeProtocol
	}
	if n == 0 {
		return c.refuseStream(h.stream, codeProtocol)
	}
	c.mu.Lock()
	s := c.streams[h.stream]
	over := false
	if s != nil {
		s.sendWindow += n
		over = s.sendWindow > maxWindow
		wake(s.writable)
	}
	c.mu.Unlock()
	if over {
		return c.refuseStream(h.stream, codeFlowControl)
	}
	return nil
}

func (c *conn) resetByClient(h *frameHead, _ []byte) error {
	switch {
	case h.length != 4:
		return codeFrameSize
	case h.stream == 0 || h.stream > c.lastID:
		return codeProtocol
	}
	if err := c.spend(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[h.stream]
	if s == nil {
		return nil
	}
	if c.resets--; c.resets <= 0 {
		return codeEnhanceCalm
	}
	s.breakOff(errReset)
	return nil
}

// breakOff ends a stream from the client's side. The mutex is held.
func (s *stream) breakOff(err error) {
	s.reset = true
	if s.bodyErr == nil && !s.remoteEnded {
		s.bodyErr = err
	}
	wake(s.readable)
	wake(s.writable)
}

// refuseStream resets a stream for a fault of the client's.
func (c *conn) refuseStream(id uint32, why code) error {
	if err := c.spend(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		if s.reset {
			return nil
		}
		s.breakOff(errReset)
		s.localEnded = true
	}
	c.forget(id)
	c.out.pending = appendReset(c.out.buf(), id, why)
	return c.waitForRoom()
}

// forget remembers that we have reset a stream: what the client sent before it knew is ignored. The mutex is held.
func (c *conn) forget(id uint32) {
	c.forgotten[c.nForgotten%len(c.forgotten)] = id
	c.nForgotten++
}

func (c *conn) wasForgotten(id uint32) bool {
	for _, f := range c.forgotten {
		if f == id {
			return true
		}
	}
	return false
}

func (c *conn) data(h *frameHead, payload []byte) error {
	if h.stream == 0 || h.stream > c.lastID || h.stream%2 == 0 {
		return codeProtocol
	}
	if c.window += c.takeGranted(); c.window < int64(h.length) {
		return codeFlowControl
	}
	c.window -= int64(h.length)
	body, err := unpad(h, payload)
	if err != nil {
		return codeProtocol
	}
	if len(body) == 0 && !h.has(flagEndStream) {
		if err := c.spend(); err != nil {
			return err
		}
	}
	c.mu.Lock()
	s := c.streams[h.stream]
	why := codeNo
	switch {
	case s == nil && c.wasForgotten(h.stream), s != nil && s.reset:
		// nobody waits for it
	case s == nil || s.remoteEnded:
		why = codeStreamClosed
	case s.recvWindow < int64(h.length):
		why = codeFlowControl
	default:
		why = s.receive(h, body)
	}
	if why != codeNo || s == nil || s.reset {
		c.unacked += h.length
		c.grantConn()
	} else if padding := h.length - len(body); padding > 0 {
		c.unacked += padding // the stream's window gets it back with what is consumed
		s.unacked += padding
	}
	c.mu.Unlock()
	if why != codeNo {
		return c.refuseStream(h.stream, why)
	}
	return nil
}

// takeGranted returns what exchanges have granted since the last call.
func (c *conn) takeGranted() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.granted
	c.granted = 0
	return n
}

// grantConn lets the client send anew what was consumed of all bodies, when it is enough to say so, and reports whether it did. The mutex
// is held.
func (c *conn) grantConn() bool {
	if c.unacked < connWindow/4 || c.err != nil {
		return false
	}
	c.out.pending = appendWindowUpdate(c.out.buf(), 0, uint32(c.unacked))
	c.granted += int64(c.unacked)
	c.unacked = 0
	return true
}

// receive keeps a part of the body for the exchange. The mutex is held.
func (s *stream) receive(h *frameHead, body []byte) code {
	s.recvWindow -= int64(h.length)
	if s.declared >= 0 {
		if s.declared -= int64(len(body)); s.declared < 0 || h.has(flagEndStream) && s.declared > 0 {
			return codeProtocol
		}
	}
	if len(body) > 0 {
		s.keep(body)
	}
	s.remoteEnded = s.remoteEnded || h.has(flagEndStream)
	wake(s.readable)
	return codeNo
}

func (s *stream) keep(body []byte) {
	switch {
	case s.in == nil:
		s.in = socket.Take(socket.BodySize)[:0]
	case len(s.in)+len(body) > cap(s.in):
		larger := append(socket.Take(socket.LargeSize)[:0], s.in...)
		give(s.in)
		s.in = larger
	}
	s.in = append(s.in, body...)
}

// kill makes everything that waits on the connection end. Any goroutine may call it.
func (c *conn) kill(err error) {
	c.mu.Lock()
	c.fail(err)
	c.mu.Unlock()
	c.sock.Abort()
}

// fail records that nothing can be sent any more. The mutex is held.
func (c *conn) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	for _, s := range c.streams {
		s.breakOff(c.err)
	}
	c.room()
	c.sock.Interrupt()
}

// send sends frames.
func (c *conn) send(frames []byte) {
	c.mu.Lock()
	c.out.pending = append(c.out.buf(), frames...)
	c.mu.Unlock()
	c.flush()
}

// end closes the connection. A client that broke the rules is told which, and left a moment to hear it.
func (c *conn) end() {
	var why code
	said := errors.As(c.ended, &why)
	if said {
		c.send(appendGoAway(nil, c.lastID, why))
	}
	c.mu.Lock()
	c.fail(io.ErrClosedPipe)
	c.mu.Unlock()
	c.running.Wait()
	c.mu.Lock()
	c.out.pending = c.out.pending[:0]
	c.release()
	c.mu.Unlock()
	if said && why != codeNo {
		c.linger()
	}
	_ = c.sock.Close()
}

// linger reads for a moment what the client still sends: a reset would take our last word away from it.
func (c *conn) linger() {
	if c.sock.CloseWrite() != nil {
		return
	}
	c.sock.ResumeReads()
	until := time.Now().Add(settleTime)
	for read := 0; read < connWindow; {
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
