//go:build linux && !gateway_plain_sockets

package socket

import (
	"net"
	"os"
	"syscall"
	"time"
)

// loose is a connection that the runtime's poller does not know: in a loop it would have to look at every arrival too, for nobody. Only closing it does
// something; everything else is done by the descriptor.
type loose struct{ fd int }

func (l loose) Close() error { return syscall.Close(l.fd) }

func (l loose) SetLinger(seconds int) error { return setLinger(l.fd, seconds) }

func (l loose) CloseWrite() error { return syscall.Shutdown(l.fd, syscall.SHUT_WR) }

func (loose) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (loose) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (loose) LocalAddr() net.Addr              { return nil }
func (loose) RemoteAddr() net.Addr             { return nil }
func (loose) SetDeadline(time.Time) error      { return nil }
func (loose) SetReadDeadline(time.Time) error  { return nil }
func (loose) SetWriteDeadline(time.Time) error { return nil }

// known is a connection that the runtime's poller has got back.
type known struct {
	*os.File
	fd int
}

func (known) LocalAddr() net.Addr { return nil }

func (known) RemoteAddr() net.Addr { return nil }

func (k known) SetLinger(seconds int) error { return setLinger(k.fd, seconds) }

func (k known) CloseWrite() error { return syscall.Shutdown(k.fd, syscall.SHUT_WR) }

func setLinger(fd, seconds int) error {
	return syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: int32(seconds)})
}

// loosen takes the connection away from the runtime's poller, which forgets a descriptor only when it is closed: so another one takes its place. It
// reports whether it could.
func (c *Conn) loosen() bool {
	fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(c.fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return false
	}
	old := c.nc
	c.mu.Lock()
	c.nc, c.raw, c.fd = loose{int(fd)}, nil, int(fd)
	c.mu.Unlock()
	c.hasty = true
	_ = old.Close()
	return true
}

// fasten gives it back.
func (c *Conn) fasten() {
	k := known{os.NewFile(uintptr(c.fd), "connection"), c.fd}
	raw, _ := k.SyscallConn() // it fails where there is no file
	c.hasty = false
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
