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

// Read implements net.Conn with the errors that connections have: TLS takes those of files for the end.
func (k repolled) Read(p []byte) (int, error) {
	n, err := k.File.Read(p)
	if of, ok := err.(*os.PathError); ok {
		err = of.Err
	}
	return n, err
}

// leavePoller takes the connection away from Go's poller, which forgets a descriptor only when it is closed: a
// duplicate takes its place. It reports whether that was possible: not where TLS holds something that nobody has read,
// since no arrival will announce it.
func (c *Conn) leavePoller() bool {
	if c.transport != nil && !c.Drained() {
		return false
	}
	fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(c.fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return false
	}
	old := c.replace(unpolled{int(fd)}, nil)
	c.fd, c.nonblocking = int(fd), true
	if c.transport != nil {
		c.transport.waitNot(int(fd), true)
	}
	_ = old.Close()
	return true
}

// replace puts another connection of the system's, or what stands for it, in the place of the one there is, which may
// be the one under TLS.
func (c *Conn) replace(by net.Conn, raw syscall.RawConn) (old net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transport != nil {
		old, c.transport.Conn, c.transportRaw = c.transport.Conn, by, raw
		return old
	}
	old, c.nc, c.raw = c.nc, by, raw
	return old
}

// rejoinPoller makes Go's poller watch the connection again.
func (c *Conn) rejoinPoller() {
	k := repolled{os.NewFile(uintptr(c.fd), "connection"), c.fd}
	raw, _ := k.SyscallConn() // it fails where there is no file
	c.nonblocking = false
	if c.transport != nil {
		c.transport.waitNot(c.fd, false)
	}
	_ = c.replace(k, raw)
	c.readBy, c.writeBy = time.Time{}, time.Time{}
	c.limits = limits{}
	if c.aborted.Load() {
		_ = k.SetDeadline(past)
	} else if c.interrupted.Load() {
		_ = k.SetReadDeadline(past)
	}
}
