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

// event is what the system reports of a connection.
type event syscall.EpollEvent

// id returns what the connection was added with.
func (e *event) id() uint64 { return uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32 }

// ended reports whether the peer has ended its side, or the connection is over.
func (e *event) ended() bool {
	return e.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0
}

// eventBatch is how many events are asked for at once.
const eventBatch = 128

// How a connection is watched: until something arrives, or for everything that arrives.
const (
	watchOnce   = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT
	watchAlways = syscall.EPOLLIN | syscall.EPOLLRDHUP | 1<<31 // EPOLLET, which package syscall has as a negative number
)

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
	w := &watch{file: os.NewFile(uintptr(fd), "watched connections"), fd: fd}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		_ = w.file.Close()
		return nil
	}
	return w
}

func (w *watch) close() { _ = w.file.Close() }

// add watches a connection.
func (w *watch) add(fd int, id uint64, how uint32) bool {
	e := syscall.EpollEvent{Events: how, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	return syscall.EpollCtl(w.fd, syscall.EPOLL_CTL_ADD, fd, &e) == nil
}

func (w *watch) remove(fd int) {
	_ = syscall.EpollCtl(w.fd, syscall.EPOLL_CTL_DEL, fd, &syscall.EpollEvent{})
}

// run reports what arrives until close.
func (w *watch) run(arrived func([]event)) {
	var events [eventBatch]event
	_ = w.raw.Read(func(fd uintptr) bool {
		for {
			n, errno := sysEpollWait(int(fd), events[:])
			switch {
			case errno == syscall.EINTR:
				continue
			case errno != 0 || n == 0:
				return false // it is asked again after the next arrival, and once when the file is closed
			}
			arrived(events[:n])
			if n < len(events) {
				return false // nothing was left: what has arrived since then is announced
			}
		}
	})
}
