//go:build linux && !gateway_plain_sockets

package socket

import (
	"net"
	"os"
	"syscall"
	"time"
)

// unpolled is a connection that Go's poller does not watch: for one in a loop the poller would handle every event in
// vain. Everything but closing uses the descriptor.
type unpolled struct{ fd int }

func (l unpolled) Close() error { return syscall.Close(l.fd) }

func (l unpolled) SetLinger(seconds int) error { return setLinger(l.fd, seconds) }

func (l unpolled) CloseWrite() error { return syscall.Shutdown(l.fd, syscall.SHUT_WR) }

func (unpolled) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (unpolled) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (unpolled) LocalAddr() net.Addr              { return nil }
func (unpolled) RemoteAddr() net.Addr             { return nil }
func (unpolled) SetDeadline(time.Time) error      { return nil }
func (unpolled) SetReadDeadline(time.Time) error  { return nil }
func (unpolled) SetWriteDeadline(time.Time) error { return nil }

// repolled is a connection that Go's poller watches again.
type repolled struct {
	*os.File
	fd int
}

func (repolled) LocalAddr() net.Addr { return nil }

func (repolled) RemoteAddr() net.Addr { return nil }

func (k repolled) SetLinger(seconds int) error { return setLinger(k.fd, seconds) }

func (k repolled) CloseWrite() error { return syscall.Shutdown(k.fd, syscall.SHUT_WR) }

func setLinger(fd, seconds int) error {
	linger := syscall.Linger{Onoff: 1, Linger: int32(seconds)}
	return syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &linger)
}

// leavePoller takes the connection away from Go's poller, which forgets a descriptor only when it is closed: a
// duplicate takes its place. It reports whether that was possible.
func (c *Conn) leavePoller() bool {
	fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(c.fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return false
	}
	old := c.nc
	c.mu.Lock()
	c.nc, c.raw, c.fd = unpolled{int(fd)}, nil, int(fd)
	c.mu.Unlock()
	c.nonblocking = true
	_ = old.Close()
	return true
}

// rejoinPoller makes Go's poller watch the connection again.
func (c *Conn) rejoinPoller() {
	k := repolled{os.NewFile(uintptr(c.fd), "connection"), c.fd}
	raw, _ := k.SyscallConn() // it fails where there is no file
	c.nonblocking = false
	c.mu.Lock()
	c.nc, c.raw = k, raw
	c.mu.Unlock()
	c.readBy, c.writeBy = time.Time{}, time.Time{}
	c.limits = limits{}
	if c.aborted.Load() {
		_ = k.SetDeadline(past)
	} else if c.interrupted.Load() {
		_ = k.SetReadDeadline(past)
	}
}
