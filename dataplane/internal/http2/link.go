package http2

import (
	"encoding/binary"
	"math"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// link is a connection, whichever side has opened it: the frames that come and go, and the windows of both directions. One goroutine reads; what
// is sent comes from those of the streams.
type link struct {
	sock *socket.Conn
	side side
	// writeTimeout is how long the peer may take nothing of what is sent.
	writeTimeout time.Duration
	// idleTimeout is how long the peer may send nothing; it is only changed by the reading goroutine. 0: what the last call of wait said.
	idleTimeout time.Duration
	// looked tells that since something came last it was looked, in vain, for the end of the connection. The reading goroutine's.
	looked   bool
	maxBlock int

	// The reading goroutine's.
	decoder    *hpack.Decoder
	fields     list
	arrivedFn  func() bool
	greeted    bool   // the preface was read
	settled    bool   // and the first SETTINGS
	lastID     uint32 // of the streams that the peer has opened
	block      []byte // a header list that is not complete, of the stream blockID
	blockID    uint32
	blockEnd   bool // its HEADERS frame ended the stream
	blockParts int
	window     int64 // what the peer may still send on the connection
	ended      error // why reading is over; codeNo: in peace
	budgetAt   time.Time

	mu         sync.Mutex
	streams    map[uint32]*flow
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
	updates    int // window updates that data sent has paid for
	resets     int // resets that may still come
	readerRoom chan struct{}
}

// side is what servers and clients do differently. Its methods are called by the reading goroutine, but setting without the mutex.
type side interface {
	// list takes in a whole header list of a stream. itself tells that the stream says that it depends on itself.
	list(id uint32, block []byte, end, itself bool) error
	// opened reports whether a stream has ever been opened.
	opened(id uint32) bool
	// setting takes a setting of the peer's that concerns one of the sides only.
	setting(id uint16, value uint32)
	// goAway says that the peer handles no stream above last.
	goAway(last uint32, why code)
}

func (c *link) init(sock *socket.Conn, s side, maxBlock, maxFields int) {
	c.sock, c.side, c.maxBlock = sock, s, maxBlock
	c.streams, c.readerRoom = map[uint32]*flow{}, make(chan struct{}, 1)
	c.peerWindow, c.sendWindow, c.budget, c.resets = initialWindow, initialWindow, maxIdleFrames, math.MaxInt
	c.fields = list{maxBytes: maxBlock, maxFields: maxFields}
	c.decoder = hpack.NewDecoder(4096, c.fields.add)
	c.decoder.SetMaxStringLength(maxBlock)
	c.arrivedFn = c.arrived
}

// wait sets how long the next bytes may take, and gives the buffer back when nothing is in it.
func (c *link) wait(d time.Duration) {
	c.sock.Release()
	c.sock.SetSize(socket.BodySize)
	c.sock.ReadWithin(time.Now(), d)
}

// arrived takes in the frames that have come whole. It returns false when the connection is over.
func (c *link) arrived() bool {
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
	if c.greeted && c.idleTimeout > 0 {
		c.looked = false
		c.sock.ReadWithin(time.Now(), min(c.idleTimeout, lookAfter))
	}
	return true
}

func (c *link) frames() error {
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
func (c *link) frame(h *frameHead, payload []byte) error {
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
		return c.resetByPeer(h, payload)
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
		c.side.goAway(binary.BigEndian.Uint32(payload)&maxWindow, code(binary.BigEndian.Uint32(payload[4:])))
	default: // RFC 9113 section 4.1: unknown types are ignored
	}
	return nil
}

// spend counts a frame that achieves nothing. A peer that sends too many of them is told to calm down.
func (c *link) spend() error {
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
func (c *link) earn(n int) { c.budget = min(c.budget+n, maxIdleFrames) }

func (c *link) settings(h *frameHead, payload []byte) error {
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
		switch id := binary.BigEndian.Uint16(payload); id {
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
		default:
			c.side.setting(id, value)
		}
	}
	c.out.pending = appendFrameHead(c.out.buf(), 0, frameSettings, flagAck, 0)
	return c.waitForRoom()
}

func (c *link) ping(h *frameHead, payload []byte) error {
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

// waitForRoom keeps a peer that does not take our answers from making them pile up: it is not read from meanwhile. The mutex is held.
func (c *link) waitForRoom() error {
	for len(c.out.pending) >= maxPending && c.err == nil {
		c.out.reader = true
		c.mu.Unlock()
		c.flush()
		<-c.readerRoom
		c.mu.Lock()
	}
	return nil
}

func (c *link) windowUpdate(h *frameHead, payload []byte) error {
	if h.length != 4 {
		return codeFrameSize
	}
	c.mu.Lock()
	paid := c.updates > 0
	if paid {
		c.updates--
	}
	c.mu.Unlock()
	if !paid {
		if err := c.spend(); err != nil {
			return err
		}
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
	if !c.side.opened(h.stream) {
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

func (c *link) resetByPeer(h *frameHead, payload []byte) error {
	switch {
	case h.length != 4:
		return codeFrameSize
	case !c.side.opened(h.stream):
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
	s.peerReset = true
	s.resetWith = code(binary.BigEndian.Uint32(payload))
	s.breakOff(errReset)
	return nil
}

// refuseStream resets a stream for a fault of the client's.
func (c *link) refuseStream(id uint32, why code) error {
	if err := c.spend(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		if s.reset && !s.peerReset {
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
func (c *link) forget(id uint32) {
	c.forgotten[c.nForgotten%len(c.forgotten)] = id
	c.nForgotten++
}

func (c *link) wasForgotten(id uint32) bool {
	for _, f := range c.forgotten {
		if f == id {
			return true
		}
	}
	return false
}

func (c *link) data(h *frameHead, payload []byte) error {
	if !c.side.opened(h.stream) {
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
	case s == nil && c.wasForgotten(h.stream), s != nil && s.reset && !s.peerReset:
		// nobody waits for it
	case s == nil || s.remoteEnded || s.peerReset:
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
func (c *link) takeGranted() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.granted
	c.granted = 0
	return n
}

// grantConn lets the client send anew what was consumed of all bodies, when it is enough to say so, and reports whether it did. The mutex
// is held.
func (c *link) grantConn() bool {
	if c.unacked < connWindow/4 || c.err != nil {
		return false
	}
	c.out.pending = appendWindowUpdate(c.out.buf(), 0, uint32(c.unacked))
	c.granted += int64(c.unacked)
	c.unacked = 0
	return true
}

// kill makes everything that waits on the connection end. Any goroutine may call it.
func (c *link) kill(err error) {
	c.mu.Lock()
	c.fail(err)
	c.mu.Unlock()
	c.sock.Abort()
}

// fail records that nothing can be sent any more. The mutex is held.
func (c *link) fail(err error) {
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
func (c *link) send(frames []byte) {
	c.mu.Lock()
	c.out.pending = append(c.out.buf(), frames...)
	c.mu.Unlock()
	c.flush()
}

// linger reads for a moment what the client still sends: a reset would take our last word away from it.
func (c *link) linger() {
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

// headers takes the start of a header list in: a request's, or that of its trailers.
func (c *link) headers(h *frameHead, payload []byte) error {
	if h.stream == 0 || h.stream%2 == 0 {
		return codeProtocol
	}
	fragment, err := unpad(h, payload)
	if err != nil {
		return codeProtocol
	}
	itself := false // depends on itself, in a scheme of priorities that nobody uses any more
	if h.has(flagPriority) {
		if len(fragment) < 5 {
			return codeFrameSize
		}
		itself = parseDependency(fragment) == h.stream
		fragment = fragment[5:]
	}
	if h.has(flagEndHeaders) {
		return c.side.list(h.stream, fragment, h.has(flagEndStream), itself)
	}
	c.block = append(c.block[:0], fragment...)
	c.blockID, c.blockEnd, c.blockParts = h.stream, h.has(flagEndStream), 0
	return nil
}

func (c *link) continuation(h *frameHead, payload []byte) error {
	if c.blockID == 0 {
		return codeProtocol
	}
	c.blockParts++
	if c.blockParts > maxContinuations || len(c.block)+len(payload) > c.maxBlock {
		return codeEnhanceCalm
	}
	c.block = append(c.block, payload...)
	if !h.has(flagEndHeaders) {
		return nil
	}
	id := c.blockID
	c.blockID = 0
	err := c.side.list(id, c.block, c.blockEnd, false)
	c.block = nil
	return err
}

func (c *link) decode(block []byte) error {
	if _, err := c.decoder.Write(block); err != nil {
		return codeCompression
	}
	if err := c.decoder.Close(); err != nil {
		return codeCompression
	}
	return nil
}

func parseDependency(b []byte) uint32 {
	return (uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])) & maxWindow
}

// trailers ends a stream's body.
func (c *link) trailers(id uint32, block []byte, end bool) error {
	c.mu.Lock()
	s := c.streams[id]
	ignored := s != nil && s.reset && !s.peerReset || s == nil && c.wasForgotten(id)
	open := s != nil && !s.reset && !s.remoteEnded
	closed := s == nil || s.localEnded && s.remoteEnded && !s.reset
	c.mu.Unlock()
	var nowhere exchange.Header
	c.fields.begin(&nowhere, ofTrailers)
	if err := c.decode(block); err != nil {
		return err
	}
	switch {
	case ignored:
		return nil
	case closed:
		return codeStreamClosed
	case !open:
		return c.refuseStream(id, codeStreamClosed)
	case !end || s.opaque || c.fields.malformed != "" || c.fields.tooLarge:
		return c.refuseStream(id, codeProtocol)
	}
	c.mu.Lock()
	short := s.declared > 0
	if !short && !s.reset {
		for _, f := range nowhere.Fields() {
			if f.InTrailers() {
				s.trailer.Append(f)
			}
		}
		s.came(true)
	}
	c.mu.Unlock()
	if short {
		return c.refuseStream(id, codeProtocol)
	}
	return nil
}
