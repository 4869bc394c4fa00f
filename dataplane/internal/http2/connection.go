package http2

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2/hpack"

	"gateway.internal/dataplane/internal/socket"
)

// connection is a connection, whichever side has opened it: the frames that come and go, and the windows of both
// directions. One goroutine reads; what is sent comes from those of the streams.
type connection struct {
	sock *socket.Conn
	side side
	// panicked is told of what panics in the connection's goroutines; nil: such panics go on.
	panicked  func(what, route string, v any)
	defective atomic.Bool // it was
	// writeTimeout is how long the peer may take nothing of what is sent.
	writeTimeout time.Duration
	// idleTimeout is how long the peer may send nothing; it is only changed by the reading goroutine. 0: what the last
	// call of wait said.
	idleTimeout time.Duration
	// maxBlock is the largest header list, and maxParts how many frames one may be cut into besides the first.
	maxBlock, maxParts int
	// listens tells that a peer that has closed the connection may have said something before: a service that answers
	// early does so.
	listens bool

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
	ended      error     // why reading is over; codeNo: in peace
	now        time.Time // see clock
	partSince  time.Time // since when something is to come that was begun, see partly; zero: nothing is

	mu         sync.Mutex
	streams    map[uint32]*streamFlow
	peerWindow int64 // of new streams
	sendWindow int64
	reserve    windowReserve // in it
	recv       recvWindow    // of all bodies together
	tableSized bool
	out        output
	err        error // the connection is over
	mute       error // nothing can be sent any more, but what has come, or is under way, is still read
	forgotten  [32]uint32
	nForgotten int
	// longForgotten is the highest number of a stream that was reset too long ago to be among the forgotten.
	longForgotten uint32
	idle          tokenBucket // of frames that achieve nothing
	updates       int         // window updates that data sent has paid for
	readerRoom    chan struct{}
	takes         socket.Pace   // how fast the peer opens the connection's window
	starving      []*streamFlow // the streams that wait for that
	starved       time.Time     // since when, or since it was opened last
	// scarce is since when there has been no more of it than is kept back; zero: there was more since the last began
	// to wait.
	scarce time.Time
	// writers are goroutines that send what no exchange is to wait for. None begins once err is set.
	writers sync.WaitGroup
}

// side is what servers and clients do differently. Its methods are called by the reading goroutine, setting and
// brokenOff with the mutex held.
type side interface {
	// list takes in a whole header list of a stream. itself tells that the stream says that it depends on itself.
	list(id uint32, block []byte, end, itself bool) error
	// opened reports whether a stream has ever been opened.
	opened(id uint32) bool
	// setting takes a setting of the peer's that concerns one of the sides only.
	setting(id uint16, value uint32)
	// brokenOff says that the peer has broken a stream off, or that it was refused for a fault of the peer's.
	brokenOff(f *streamFlow) error
	// goAway says that the peer handles no stream above last.
	goAway(last uint32, why code)
}

func (c *connection) init(sock *socket.Conn, s side, maxBlock, maxFields int) {
	c.sock, c.side, c.maxBlock, c.maxParts = sock, s, maxBlock, max(maxContinuations, readBlocks*maxBlock/maxFrameBytes)
	c.streams, c.readerRoom = map[uint32]*streamFlow{}, make(chan struct{}, 1)
	c.peerWindow, c.sendWindow, c.idle = initialWindow, initialWindow, newTokenBucket(maxIdleFrames, idleFramesRate)
	c.fields = list{maxBytes: maxBlock, maxFields: maxFields}
	c.decoder = hpack.NewDecoder(4096, c.fields.add)
	c.decoder.SetMaxStringLength(readBlocks * maxBlock)
	c.arrivedFn = c.arrived
}

// wait sets how long the next bytes may take, and gives the buffer back when nothing is in it.
func (c *connection) wait(d time.Duration) {
	c.rest()
	c.sock.ReadWithin(time.Now(), d)
}

// rest gives the buffer back when nothing is in it.
func (c *connection) rest() {
	c.sock.Release()
	c.sock.SetSize(socket.BodySize)
}

// arrived takes in the frames that have come whole. It returns false when the connection is over.
func (c *connection) arrived() bool {
	c.now = time.Time{}
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
	return true
}

// partly reports whether there is something to come that was begun: the rest of a frame, of a header list, or the
// settings after the preface.
func (c *connection) partly() bool { return len(c.sock.Buffered()) > 0 || c.blockID != 0 || !c.settled }

func (c *connection) frames() error {
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
		if c.blockID == 0 {
			c.partSince = time.Time{}
		}
	}
}

// frame takes one frame in. What it returns ends the connection.
func (c *connection) frame(h *frameHead, payload []byte) error {
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

// locked calls f with the mutex held, which is given back whatever happens: who recovers from a panic needs it.
func (c *connection) locked(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// unlocked calls f without the mutex, where it is held, and is held again afterwards.
func (c *connection) unlocked(f func()) {
	c.mu.Unlock()
	defer c.mu.Lock()
	f()
}

// kill makes everything that waits on the connection end. Any goroutine may call it.
func (c *connection) kill(err error) {
	c.locked(func() { c.fail(err) })
	c.sock.Abort()
}

// fail records that nothing can be sent any more. The mutex is held.
func (c *connection) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	for _, s := range c.streams {
		s.breakOff(c.err)
	}
	c.room()
	c.sock.Interrupt()
}

// unsent records that frames can't be sent. The mutex is held.
func (c *connection) unsent(err error) {
	if !c.listens || !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		c.fail(err)
		return
	}
	// The reading goroutine comes to the end of the connection by itself.
	c.mute = err
	for _, s := range c.streams {
		wake(s.writable)
	}
	c.room()
}

// send sends frames.
func (c *connection) send(frames []byte) {
	c.locked(func() { c.out.pending = append(c.out.buf(), frames...) })
	c.flush()
}

// sendLast sends frames before the connection is given up: it waits for another goroutine that sends, which would leave
// them behind.
func (c *connection) sendLast(frames []byte) {
	c.locked(func() {
		c.out.pending = append(c.out.buf(), frames...)
		for c.out.writing && len(c.out.pending) > 0 && c.err == nil {
			c.out.reader = true
			c.unlocked(func() { <-c.readerRoom })
		}
	})
	c.flush()
}

// linger reads for a moment what the client still sends: a reset would take our last word away from it.
func (c *connection) linger() {
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
