//go:build linux && !gateway_plain_sockets

package socket

import (
	"os"
	"syscall"
)

// watch is an epoll instance of its own, which the runtime's poller watches in turn: a goroutine waits for any number
// of connections.
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

// How a connection is watched: until something arrives, or for everything that arrives.
const (
	watchOnce   = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT
	watchAlways = syscall.EPOLLIN | syscall.EPOLLRDHUP | 1<<31 // EPOLLET, which package syscall has as a negative number
)

// newWatch returns nil where there is no descriptor left.
func newWatch() *watch {
	w := newInnerWatch()
	if w == nil {
		return nil
	}
	err := syscall.SetNonblock(w.fd, true)
	if err == nil {
		w.file = os.NewFile(uintptr(w.fd), "watched connections")
		w.raw, err = w.file.SyscallConn()
	}
	if err != nil {
		w.close()
		return nil
	}
	return w
}

// newInnerWatch returns a watch that another one watches; nil where there is no descriptor left.
func newInnerWatch() *watch {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil
	}
	return &watch{fd: fd}
}

func (w *watch) close() {
	if w.file != nil {
		_ = w.file.Close()
		return
	}
	_ = syscall.Close(w.fd)
}

// add watches a connection.
func (w *watch) add(fd int, id uint64, how uint32) bool {
	e := syscall.EpollEvent{Events: how, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	return syscall.EpollCtl(w.fd, syscall.EPOLL_CTL_ADD, fd, &e) == nil
}

func (w *watch) remove(fd int) {
	_ = syscall.EpollCtl(w.fd, syscall.EPOLL_CTL_DEL, fd, &syscall.EpollEvent{})
}

// run calls look whenever something may have arrived, until close. look has to take all that has.
func (w *watch) run(look func()) {
	_ = w.raw.Read(func(uintptr) bool {
		look()
		return false // it is asked again after the next arrival, and once when the file is closed
	})
}

// poll returns what has arrived: when that fills events, more may have.
func (w *watch) poll(events []event) []event {
	for {
		n, errno := sysEpollWait(w.fd, events)
		switch errno {
		case 0:
			return events[:n]
		case syscall.EINTR:
		default:
			return nil
		}
	}
}
