//go:build linux && !gateway_plain_sockets

package socket

import (
	"os"
	"syscall"
)

// watch is an epoll instance of its own, which the runtime's poller watches in turn: a goroutine waits for any number of connections.
type watch struct {
	file *os.File
	raw  syscall.RawConn
	fd   int
}

// newWatch returns nil where there is no descriptor left.
func newWatch() *watch {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil
	}
	w := &watch{file: os.NewFile(uintptr(fd), "resting connections"), fd: fd}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		_ = w.file.Close()
		return nil
	}
	return w
}

func (w *watch) close() { _ = w.file.Close() }

// add watches a connection until something arrives, once.
func (w *watch) add(fd int, id uint64) bool {
	e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	return syscall.EpollCtl(w.fd, syscall.EPOLL_CTL_ADD, fd, &e) == nil
}

func (w *watch) remove(fd int) {
	_ = syscall.EpollCtl(w.fd, syscall.EPOLL_CTL_DEL, fd, &syscall.EpollEvent{})
}

// run reports what arrives until close.
func (w *watch) run(arrived func(id uint64)) {
	var events [64]syscall.EpollEvent
	_ = w.raw.Read(func(fd uintptr) bool {
		for {
			n, err := syscall.EpollWait(int(fd), events[:], 0)
			if err == syscall.EINTR {
				continue
			}
			if n <= 0 {
				return false // it is asked again after the next arrival, and once when the file is closed
			}
			for i := range n {
				arrived(uint64(uint32(events[i].Fd)) | uint64(uint32(events[i].Pad))<<32)
			}
		}
	})
}
