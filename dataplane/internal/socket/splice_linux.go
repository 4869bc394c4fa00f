//go:build linux && !gateway_plain_sockets

package socket

import (
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// pipeBytes is how much a pipe is asked to hold, and so how much one call moves; the system may give less.
const pipeBytes = 256 << 10

const (
	spliceMove     = 1    // SPLICE_F_MOVE
	spliceNonblock = 2    // SPLICE_F_NONBLOCK
	setPipeSize    = 1031 // F_SETPIPE_SZ
)

// pipe carries bytes inside the kernel. An idle one is empty.
type pipe struct {
	r, w    int
	held    int
	cleanup runtime.Cleanup
}

var pipes = sync.Pool{}

func takePipe() (*pipe, error) {
	if p, ok := pipes.Get().(*pipe); ok {
		return p, nil
	}
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fds[1]), setPipeSize, pipeBytes) // smaller does as well
	p := &pipe{r: fds[0], w: fds[1]}
	p.cleanup = runtime.AddCleanup(p, closePipe, fds) // the pool drops what was not used for long
	return p, nil
}

func closePipe(fds [2]int) {
	_ = syscall.Close(fds[0])
	_ = syscall.Close(fds[1])
}

// give keeps the pipe for others, unless it holds something.
func (p *pipe) give() {
	if p.held == 0 {
		pipes.Put(p)
		return
	}
	p.cleanup.Stop()
	closePipe([2]int{p.r, p.w})
}

// CanSplice reports whether bytes can go from c to dst without passing through the process.
func (c *Conn) CanSplice(dst *Conn) bool { return c.raw != nil && dst.raw != nil }

// Splice moves n bytes from c to dst inside the kernel (splice(2)). Nothing may be buffered. before is called before
// each wait, to move deadlines. ofDst tells that err is of dst; bytes that dst did not take are lost then, and so they
// are with every error.
func (c *Conn) Splice(dst *Conn, n int64, before func(now time.Time)) (moved int64, ofDst bool, err error) {
	p, err := takePipe()
	if err != nil {
		return 0, false, err
	}
	defer p.give()
	for moved < n {
		before(time.Now())
		c.limits.read()
		dst.limits.write()
		if err := c.spliceIn(p, n-moved); err != nil {
			return moved, false, err
		}
		for p.held > 0 {
			sent, err := dst.spliceOut(p)
			moved += int64(sent)
			if err != nil {
				return moved, true, err
			}
		}
	}
	return moved, false, nil
}

// spliceIn waits for bytes and moves them to the pipe.
func (c *Conn) spliceIn(p *pipe, most int64) error {
	var got int64
	var errno syscall.Errno
	err := c.raw.Read(func(fd uintptr) bool {
		got, errno = splice(int(fd), p.w, int(min(most, pipeBytes)))
		return errno != syscall.EAGAIN
	})
	switch {
	case err != nil:
		return c.pollError(err)
	case errno != 0:
		return os.NewSyscallError("splice", errno)
	case got == 0:
		return io.ErrUnexpectedEOF
	}
	p.held = int(got)
	return nil
}

// spliceOut moves what the socket takes out of the pipe, at least a byte.
func (c *Conn) spliceOut(p *pipe) (int, error) {
	sent, errno := splice(p.r, c.fd, p.held)
	if errno == syscall.EAGAIN {
		begun := time.Now()
		if c.pace.Least > 0 {
			c.WriteWithin(begun, c.writeFor)
		}
		if err := c.raw.Write(func(fd uintptr) bool {
			sent, errno = splice(p.r, int(fd), p.held)
			return errno != syscall.EAGAIN
		}); err != nil {
			return 0, c.pollError(err)
		}
		if !c.pace.Add(time.Since(begun), int(sent)) {
			return 0, ErrTooSlow
		}
	}
	if errno != 0 {
		return 0, os.NewSyscallError("splice", errno)
	}
	p.held -= int(sent)
	return int(sent), nil
}

// splice does not wait, and the scheduler is not told of it: told, it takes the processor away after 20 microseconds,
// of which a large move needs some hundred, and gives it back through another thread each time.
func splice(from, to, n int) (int64, syscall.Errno) {
	for {
		moved, _, errno := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), spliceMove|spliceNonblock)
		switch errno {
		case 0:
			return int64(moved), 0
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
