//go:build linux && !gateway_plain_sockets

package socket

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"
)

func (c *Conn) initRaw() {
	raw := c.initPeek(c.nc)
	if raw == nil {
		return
	}
	c.raw = raw
	c.readFn = c.onReadable
	c.eachFn = c.onEach
	c.writeFn = c.onWritable
}

// initPeek gets at the descriptor of a connection of the system's.
func (c *Conn) initPeek(nc net.Conn) syscall.RawConn {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	if err := raw.Control(func(fd uintptr) { c.fd = int(fd) }); err != nil {
		return nil
	}
	return raw
}

// initTransport gets at the descriptor under TLS.
func (c *Conn) initTransport() {
	if c.transportRaw = c.initPeek(c.transport.Conn); c.transportRaw != nil {
		c.transport.fd, c.transport.owner = c.fd, c
		c.writeFn = c.onWritable
		c.eachFn = c.onEachTLS
	}
}

// readDirect reads what the socket has.
func (b *Transport) readDirect(p []byte) (int, error) {
	if b.dry {
		return 0, os.ErrDeadlineExceeded
	}
	for {
		n, errno := sysRead(b.fd, p)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			b.dry = true
			return 0, os.ErrDeadlineExceeded
		case errno != 0:
			return 0, os.NewSyscallError("read", errno)
		case n == 0:
			return 0, io.EOF
		}
		b.dry = n < len(p)
		return n, nil
	}
}

// writeDirect tries without the poller first, as writeRaw does.
func (b *Transport) writeDirect(p []byte) (int, error) {
	if b.fd < 0 {
		return b.Conn.Write(p)
	}
	sent := 0
	for sent < len(p) {
		n, errno := sysWrite(b.fd, p[sent:])
		switch errno {
		case 0:
			sent += n
		case syscall.EINTR:
		case syscall.EAGAIN:
			n, err := b.owner.writeWaiting(b.owner.transportRaw, p[sent:], nil)
			if sent += n; err != nil {
				return sent, err
			}
		default:
			return sent, os.NewSyscallError("write", errno)
		}
	}
	return sent, nil
}

// offerDirect writes as much of p as the socket takes at once. It is called where the descriptor is known.
func (b *Transport) offerDirect(p []byte) (sent int, err error) {
	for sent < len(p) {
		n, errno := sysWrite(b.fd, p[sent:])
		switch errno {
		case 0:
			sent += n
		case syscall.EINTR:
		case syscall.EAGAIN:
			return sent, nil
		default:
			return sent, os.NewSyscallError("write", errno)
		}
	}
	return sent, nil
}

// eachTLS is eachRaw for a connection over TLS, which reads from the socket inside the poller's callback.
func (c *Conn) eachTLS() error {
	c.readErr = nil
	if err := c.transportRaw.Read(c.eachFn); err != nil {
		return c.pollError(err)
	}
	return c.readErr
}

// onEachTLS is called once when Each starts, and again whenever the poller says that something happened since.
func (c *Conn) onEachTLS(uintptr) bool {
	c.transport.dry = false
	for {
		if c.buf == nil {
			c.buf = Take(c.size)
			c.r, c.w = 0, 0
		}
		c.transport.direct = true
		n, err := c.nc.Read(c.buf[c.w:])
		c.transport.direct = false
		if n == 0 {
			c.Release()
			if os.IsTimeout(err) {
				return false
			}
			c.readErr = noProgress(err)
			return true
		}
		c.w += n
		if !c.serve() {
			return true
		}
		if !c.served {
			c.transport.dry = false // see Each
		}
		c.served = true
	}
}

// receiveTLS takes all records that have come, as far as there is room, without waiting.
func (c *Conn) receiveTLS() (got bool, err error) {
	c.transport.dry = false
	for {
		taken := c.buf == nil
		if taken {
			c.takeBuffer()
		}
		if c.w == len(c.buf) {
			c.more = true
			return got, nil
		}
		c.transport.direct = true
		n, err := c.nc.Read(c.buf[c.w:])
		c.transport.direct = false
		if n > 0 {
			c.w += n
			got = true
			continue
		}
		if taken {
			c.Release()
		}
		switch {
		case os.IsTimeout(err):
			return got, nil
		case got: // TLS gives the same error again
			c.more = true
			return true, nil
		}
		return false, noProgress(err)
	}
}

// takeBuffer takes a buffer, of a loop where one receives.
func (c *Conn) takeBuffer() {
	if c.spare != nil {
		c.buf = c.spare.Take(c.size)
	} else {
		c.buf = Take(c.size)
	}
	c.r, c.w = 0, 0
}

// fillRaw reads inside the poller's callback. The buffer is taken just before the read and given back when there was
// nothing, so a connection that waits holds none.
func (c *Conn) fillRaw() error {
	if err := c.raw.Read(c.readFn); err != nil {
		return c.pollError(err)
	}
	return c.readOutcome()
}

func (c *Conn) readOutcome() error {
	if c.readErr != nil {
		return c.readErr
	}
	if c.readN == 0 {
		return io.EOF
	}
	c.w += c.readN
	return nil
}

// onReadable is called once when a read starts, and again whenever the poller says that something happened.
func (c *Conn) onReadable(fd uintptr) bool {
	c.readN, c.readErr = 0, nil
	if c.armed != nil {
		// First call of SendAndFill. The poller was re-armed before this, so the answer can't be missed and
		// a read now would find nothing.
		n, errno := sysWrite(int(fd), c.armed)
		c.sent = n
		full := errno == 0 && n == len(c.armed)
		c.armed = nil
		if full {
			return false
		}
		if errno != 0 && errno != syscall.EAGAIN {
			c.readErr = os.NewSyscallError("write", errno)
		}
		return true
	}
	return c.receive(int(fd))
}

// receive tries to read once, and reports whether there was an outcome: bytes, the end or an error.
func (c *Conn) receive(fd int) bool {
	taken := c.buf == nil
	if taken {
		c.takeBuffer()
	}
	for {
		n, errno := sysRead(fd, c.buf[c.w:])
		if errno == syscall.EINTR {
			continue
		}
		c.readN = n
		if n > 0 {
			return true
		}
		if taken {
			c.Release()
		}
		if errno == syscall.EAGAIN {
			return false
		}
		if errno != 0 {
			c.readErr = os.NewSyscallError("read", errno)
		}
		return true
	}
}

func (c *Conn) eachRaw() error {
	c.readN, c.readErr = 0, nil
	if err := c.raw.Read(c.eachFn); err != nil {
		return c.pollError(err)
	}
	if c.readErr != nil {
		return c.readErr
	}
	if c.readN == 0 {
		return io.EOF
	}
	return nil
}

// onEach is called once when Each starts, and again whenever the poller says that something happened since.
func (c *Conn) onEach(fd uintptr) bool {
	for {
		c.readErr = nil
		if !c.receive(int(fd)) {
			return false
		}
		if c.readErr != nil || c.readN == 0 {
			return true
		}
		c.w += c.readN
		drained := c.w < len(c.buf)
		if !c.serve() {
			return true
		}
		if drained && c.served {
			return false
		}
		c.served = true
	}
}

func (c *Conn) sendAndFillRaw(b []byte) (int, error) {
	c.armed, c.sent = b, 0
	err := c.raw.Read(c.readFn)
	if c.armed != nil { // the deadline had passed before anything was tried
		c.armed = nil
		return 0, c.pollError(err)
	}
	sent := c.sent
	if err != nil {
		return sent, c.pollError(err)
	}
	if sent < len(b) {
		if c.readErr != nil {
			return sent, c.readErr
		}
		// The socket's send buffer is full: the slow way.
		if err := c.writeRaw(b[sent:], nil); err != nil {
			return sent, err
		}
		return len(b), c.fillRaw()
	}
	return sent, c.readOutcome()
}

// writeRaw tries without the poller first: nearly always the socket has room. The descriptor is valid, since only the
// owner closes the connection.
func (c *Conn) writeRaw(a, b []byte) error {
	if c.aborted.Load() {
		return os.ErrDeadlineExceeded
	}
	if len(c.pending) > 0 {
		if c.nonblocking {
			c.keepPending(a, b)
			return nil
		}
		if err := c.flushPending(); err != nil {
			return err
		}
	}
	for {
		n, errno := sysWritev(c.fd, a, b)
		switch errno {
		case 0:
			a, b = advance(a, b, n)
			if len(a) == 0 {
				return nil
			}
			continue
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
		default:
			return os.NewSyscallError("write", errno)
		}
		if c.nonblocking {
			c.keepPending(a, b)
			return nil
		}
		n, err := c.writeWaiting(c.raw, a, b)
		if err != nil {
			return err
		}
		if a, b = advance(a, b, n); len(a) == 0 {
			return nil
		}
	}
}

func (c *Conn) offerRaw(b []byte) (int, error) {
	for {
		n, errno := sysWrite(c.fd, b)
		switch errno {
		case syscall.EINTR:
		case 0, syscall.EAGAIN:
			return n, nil
		default:
			return 0, os.NewSyscallError("write", errno)
		}
	}
}

// writeWaiting waits until the peer takes something.
func (c *Conn) writeWaiting(raw syscall.RawConn, a, b []byte) (int, error) {
	begun := time.Now()
	if c.pace.Least > 0 {
		c.WriteWithin(begun, c.writeFor)
	}
	c.writing, c.wrote, c.writeErr = [2][]byte{a, b}, 0, nil
	err := raw.Write(c.writeFn)
	c.writing = [2][]byte{}
	switch {
	case err != nil:
		return 0, c.pollError(err)
	case c.writeErr != nil:
		return 0, c.writeErr
	case !c.pace.Add(time.Since(begun), c.wrote):
		return c.wrote, ErrTooSlow
	}
	return c.wrote, nil
}

// onWritable is called until something could be written.
func (c *Conn) onWritable(fd uintptr) bool {
	for {
		n, errno := sysWritev(int(fd), c.writing[0], c.writing[1])
		switch errno {
		case 0:
			c.wrote = n
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			c.writeErr = os.NewSyscallError("write", errno)
			return true
		}
	}
}

// advance drops n bytes from the front of a and b together; a is empty only when both are.
func advance(a, b []byte, n int) ([]byte, []byte) {
	if n < len(a) {
		return a[n:], b
	}
	return b[n-len(a):], nil
}

// Quiet reports whether the peer has sent nothing and has not ended: only then may an idle connection carry another
// request. What an upstream sends unasked would otherwise be taken for the next request's response.
func (c *Conn) Quiet() bool {
	if !c.Drained() {
		return false
	}
	if c.fd < 0 {
		return true
	}
	var one [1]byte
	for {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&one)), 1,
			syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		return errno == syscall.EAGAIN
	}
}

// The events of poll(2) that tell of the peer's end.
const (
	pollErr   = 0x8
	pollHup   = 0x10
	pollRdHup = 0x2000
)

// PeerGone reports whether the peer has reset the connection or, unless halfClosed allows that, ended its side. Any
// goroutine may call it. Of a connection that was closed meanwhile the answer means nothing.
func (p Probe) PeerGone(halfClosed bool) bool {
	if !p.known {
		return false
	}
	asked := struct {
		fd              int32
		events, revents int16
	}{fd: int32(p.fd), events: pollRdHup}
	var now syscall.Timespec
	n, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL,
		uintptr(unsafe.Pointer(&asked)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	if errno != 0 || n == 0 {
		return false
	}
	return asked.revents&(pollErr|pollHup) != 0 || !halfClosed && asked.revents&pollRdHup != 0
}

// pollError makes of the poller's errors what net.Conn would give.
func (c *Conn) pollError(err error) error {
	if op, ok := err.(*net.OpError); ok && op.Err != nil {
		return op.Err
	}
	return err
}

// The calls below never wait, since the sockets are non-blocking, so the scheduler is not told of them: they are over
// before anybody could have used the processor. They are the socket's own calls: read and write go through the file
// layer first, which costs a fifth of a small receive.

func sysRead(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func sysWrite(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func sysEpollWait(fd int, events []event) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func sysWritev(fd int, a, b []byte) (int, syscall.Errno) {
	if len(b) == 0 {
		return sysWrite(fd, a)
	}
	iov := [2]syscall.Iovec{{Base: unsafe.SliceData(a)}, {Base: unsafe.SliceData(b)}}
	iov[0].SetLen(len(a))
	iov[1].SetLen(len(b))
	msg := syscall.Msghdr{Iov: &iov[0], Iovlen: 2}
	n, _, errno := syscall.RawSyscall(syscall.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), syscall.MSG_NOSIGNAL)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
