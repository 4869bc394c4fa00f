// Package socket reads and writes connections at the lowest cost that Go's poller allows: buffers are taken only when
// there is something to read, a request is written once the poller is already armed for its answer, and deadlines
// are moved only when they have drifted. It knows nothing of HTTP.
package socket

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is a connection with its receive buffer. One goroutine reads and one writes; both may be the same. Only the
// owner closes it, when neither runs: everybody else uses Interrupt.
//
// Every wait has a limit of its own: ReadWithin comes before each Fill, Each and Splice, WriteWithin before each Write
// and FlushPending, and both before SendAndFill. In builds with the race detector a wait without is a panic.
//
// Received bytes are Buffered until Consume. They stay where they are until the buffer is released or compacted, so
// that what was parsed from them may point at them.
type Conn struct {
	limits limits

	mu  sync.Mutex // protects nc where others than the owner use it, who alone changes it
	nc  net.Conn
	raw syscall.RawConn // nil: plain net.Conn calls
	fd  int             // -1: not known
	// transport is the connection under TLS, where it is known; first is the byte that a read without a buffer waits for.
	transport    *Transport
	transportRaw syscall.RawConn // transport's; nil: plain net.Conn calls
	first        [1]byte

	buf  []byte // nil while nothing was received
	r, w int    // the received and not yet consumed bytes are buf[r:w]
	size Size

	readFn  func(fd uintptr) bool
	eachFn  func(fd uintptr) bool
	serve   func() bool
	served  bool // serve has been called since Each began
	readErr error
	readN   int
	armed   []byte // what the next read call writes first
	sent    int    // how much of it was written

	writeFn  func(fd uintptr) bool
	writing  [2][]byte
	writeErr error

	nonblocking bool   // it is in a loop: Write must not wait
	more        bool   // the last Receive may have left something
	pending     []byte // what Write has kept for FlushPending

	wrote    int           // how much of it
	pace     Pace          // of the peer as it takes what is written
	writeFor time.Duration // what WriteWithin was last asked for

	readBy, writeBy time.Time // deadlines in force
	spare           *Spare    // of the loop that receives; nil: none does

	// interrupted and aborted keep deadlines that are moved at the same moment from undoing Interrupt and Abort.
	interrupted, aborted atomic.Bool
}

// New wraps a connection.
func New(nc net.Conn) *Conn {
	c := &Conn{nc: nc, fd: -1}
	c.initRaw()
	c.initTLS()
	return c
}

// Buffered returns the bytes that were received and not consumed.
func (c *Conn) Buffered() []byte { return c.buf[c.r:c.w] }

// Consume marks the first n buffered bytes as used. They stay readable until the next Fill, Compact or Release.
func (c *Conn) Consume(n int) { c.r += n }

// Release gives the buffer back when nothing in it is unread; views into it are over.
func (c *Conn) Release() {
	if c.r == c.w && c.buf != nil {
		Give(c.buf)
		c.buf, c.r, c.w = nil, 0, 0
	}
}

// Rewind lets the next Fill use the buffer from its start, when nothing in it is unread; views into it are over.
func (c *Conn) Rewind() {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
}

// Compact moves unread bytes to the front of the buffer; views into it are over.
func (c *Conn) Compact() {
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
}

// Grow moves the unread bytes to a new buffer of a larger class, leaving the old one to the caller, who Gives it back
// when the views into it are over.
func (c *Conn) Grow(s Size) (old []byte) {
	old = c.buf
	next := Take(s)
	c.w = copy(next, old[c.r:c.w])
	c.r = 0
	c.buf = next
	return old
}

// Detach takes the buffer out of the connection, when nothing in it is unread: views into it stay valid until the
// caller Gives it back.
func (c *Conn) Detach() []byte {
	b := c.buf
	c.buf, c.r, c.w = nil, 0, 0
	return b
}

// Cap returns the size of the buffer in use, in bytes; 0 when there is none.
func (c *Conn) Cap() int { return len(c.buf) }

// Room returns how many bytes can still be received into the buffer in use; 0 when there is none.
func (c *Conn) Room() int { return len(c.buf) - c.w }

// SetSize chooses the class of the buffer that is taken next.
func (c *Conn) SetSize(s Size) { c.size = s }

// Fill waits for bytes and appends what there is to the buffer, taking one when there is none. There has to be room.
// It returns io.EOF when the peer has ended, os.ErrDeadlineExceeded after the deadline, or the socket's error.
func (c *Conn) Fill() error {
	c.limits.read()
	return c.fill()
}

func (c *Conn) fill() error {
	if c.raw != nil {
		return c.fillRaw()
	}
	if c.buf == nil {
		if c.transport != nil {
			return c.fillTLS()
		}
		c.buf = Take(c.size)
		c.r, c.w = 0, 0
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	c.Release()
	return noProgress(err)
}

func noProgress(err error) error {
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// Each waits for bytes and calls serve, again and again, until serve returns false (then it returns nil) or nothing
// more can be received. serve returns true only with nothing buffered, and does not read from the connection.
//
// It is Fill in a loop at the cost of fewer system calls: the poller is not re-armed in between, so that no arrival is
// lost, and no read has to be tried just to be sure that nothing arrived meanwhile. Only the first time it is tried,
// since an end that arrives together with bytes is not announced again: a client that sends one request and shuts its
// side down is noticed at once, one that does so with a later request when the read deadline passes.
func (c *Conn) Each(serve func() bool) error {
	c.limits.reading()
	if c.raw != nil {
		c.serve, c.served = serve, false
		return c.eachRaw()
	}
	if c.transportRaw != nil {
		c.serve, c.served = serve, false
		return c.eachTLS()
	}
	for {
		if err := c.fill(); err != nil {
			return err
		}
		if !serve() {
			return nil
		}
	}
}

// SendAndFill writes b and waits for the first bytes of the answer, as Write and Fill would, but arms the poller before
// it writes, so that no read is tried in vain. Nothing may be buffered. written tells how much of b left; when it is
// less than all, err is of the write.
func (c *Conn) SendAndFill(b []byte) (written int, err error) {
	c.limits.read()
	c.limits.write()
	if c.raw != nil {
		return c.sendAndFillRaw(b)
	}
	if n, err := c.nc.Write(b); err != nil {
		return n, err
	}
	return len(b), c.fill()
}

// Write sends a and then b, which may be empty, with as few packets as it takes.
func (c *Conn) Write(a, b []byte) error {
	if !c.nonblocking {
		c.limits.write()
	}
	return c.write(a, b)
}

func (c *Conn) write(a, b []byte) error {
	if c.transport != nil {
		return c.writeTLS(a, b)
	}
	if c.raw != nil || c.nonblocking {
		return c.writeRaw(a, b)
	}
	if c.pace.Least > 0 {
		if _, err := c.writePaced(c.nc, a); err != nil {
			return err
		}
		_, err := c.writePaced(c.nc, b)
		return err
	}
	if len(b) == 0 {
		_, err := c.nc.Write(a)
		return err
	}
	bufs := net.Buffers{a, b}
	_, err := bufs.WriteTo(c.nc)
	return err
}

// slack is how much later than asked a deadline may fire: an eighth of the time, at most a second. In return
// a deadline that is asked for again and again is moved about once in that time: moving it on every request
// would cost half a microsecond each.
func slack(d time.Duration) time.Duration { return min(d/8, time.Second) }

// ReadWithin makes reads fail with os.ErrDeadlineExceeded after d from now, or up to an eighth (at most a second)
// later; d <= 0: at once.
func (c *Conn) ReadWithin(now time.Time, d time.Duration) {
	c.limits.setRead()
	if by, ok := move(c.readBy, now, d); ok {
		c.readBy = by
		_ = c.nc.SetReadDeadline(by)
		if c.interrupted.Load() || c.aborted.Load() {
			_ = c.nc.SetReadDeadline(past)
		}
	}
}

// ReadAlways lets reads wait for as long as it takes. It is for a goroutine that reads for others who keep limits of
// their own.
func (c *Conn) ReadAlways() {
	c.limits.setAlways()
	if !c.readBy.IsZero() {
		c.readBy = time.Time{}
		_ = c.nc.SetReadDeadline(time.Time{})
		if c.interrupted.Load() || c.aborted.Load() {
			_ = c.nc.SetReadDeadline(past)
		}
	}
}

// WriteWithin is ReadWithin for writes.
func (c *Conn) WriteWithin(now time.Time, d time.Duration) {
	c.limits.setWrite()
	c.writeFor = d
	if by, ok := move(c.writeBy, now, d); ok {
		c.writeBy = by
		_ = c.nc.SetWriteDeadline(by)
		if c.aborted.Load() {
			_ = c.nc.SetWriteDeadline(past)
		}
	}
}

// move returns the new deadline, and whether the one in force has to be changed.
func move(have, now time.Time, d time.Duration) (time.Time, bool) {
	d = max(d, time.Nanosecond)
	want, s := now.Add(d), slack(d)
	if !have.Before(want) && !have.After(want.Add(s)) {
		return have, false
	}
	return want.Add(s), true
}

// Interrupt makes a waiting read and every later one fail with os.ErrDeadlineExceeded, until ResumeReads. Any goroutine
// may call it.
func (c *Conn) Interrupt() {
	c.interrupted.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.nc.SetReadDeadline(past)
}

// Interrupted reports whether Interrupt was called since the last ResumeReads.
func (c *Conn) Interrupted() bool { return c.interrupted.Load() }

// Abort makes every waiting and later read and write fail with os.ErrDeadlineExceeded. Any goroutine may call it.
func (c *Conn) Abort() {
	c.interrupted.Store(true)
	c.aborted.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.nc.SetDeadline(past)
}

// Aborted reports whether Abort was called.
func (c *Conn) Aborted() bool { return c.aborted.Load() }

// past is a deadline that is over.
var past = time.Unix(1, 0)

// ResumeReads ends what Interrupt began, but not what Abort did, and takes the limit of reads away. Only the owner
// calls it.
func (c *Conn) ResumeReads() {
	c.limits.dropRead()
	c.readBy = time.Time{}
	c.interrupted.Store(false)
	_ = c.nc.SetReadDeadline(time.Time{})
	if c.aborted.Load() {
		_ = c.nc.SetReadDeadline(past)
	}
}

// Probe asks the system about a connection without its owner: see PeerGone.
type Probe struct {
	fd    int
	known bool
}

// Probe returns the connection's probe. Any goroutine may call it while nobody closes the connection or registers it
// with a loop.
func (c *Conn) Probe() Probe { return Probe{c.fd, c.fd >= 0} }

// CloseWrite tells the peer that nothing more will be sent.
func (c *Conn) CloseWrite() error {
	if cw, ok := c.nc.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

// Reset makes Close drop what was not sent and tell the peer so (RST), for responses that end too early.
func (c *Conn) Reset() {
	nc := c.nc
	if c.transport != nil {
		nc = c.transport.Conn
	}
	if tc, ok := nc.(interface{ SetLinger(seconds int) error }); ok {
		_ = tc.SetLinger(0)
	}
}

// Close closes the connection and gives its buffer back; views into it are over.
func (c *Conn) Close() error {
	c.r = c.w
	c.Release()
	return c.nc.Close()
}
