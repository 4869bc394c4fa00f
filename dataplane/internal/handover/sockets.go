package handover

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Socket is a listening socket.
type Socket struct {
	// Name says what it is for, in up to 64 bytes.
	Name string
	// Address is what the settings call it, in up to 256 bytes; empty: it goes by its name, or by where it really listens.
	Address string
	// Listener listens on it.
	Listener net.Listener
}

// Sockets are listening sockets that were opened by somebody else.
type Sockets []Socket

// Take takes the socket for an address of the settings out of the set: the one that is called so, or named so where it
// goes by its name, or listens there. It returns nil where there is none.
func (s *Sockets) Take(name, address string) net.Listener {
	at := place(address)
	for _, fits := range []func(*Socket) bool{
		func(x *Socket) bool { return x.Address == address },
		func(x *Socket) bool { return x.Address == "" && x.Name == name },
		func(x *Socket) bool { return at.IsValid() && at == boundTo(x.Listener) },
	} {
		for i := range *s {
			if x := &(*s)[i]; fits(x) {
				ln := x.Listener
				*s = append((*s)[:i:i], (*s)[i+1:]...)
				return ln
			}
		}
	}
	return nil
}

// Addresses returns where the sockets listen.
func (s Sockets) Addresses() []string {
	var all []string
	for _, x := range s {
		all = append(all, x.Listener.Addr().String())
	}
	return all
}

// Close closes what was not taken. Where another process has the socket too, it goes on listening.
func (s *Sockets) Close() {
	for _, x := range *s {
		_ = x.Listener.Close()
	}
	*s = nil
}

// place returns where an address of TCP is, the unspecified addresses of both families being one; it is not valid for a
// port that the kernel is to choose, and for what is no address.
func place(address string) netip.AddrPort {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil || a.Port == 0 {
		return netip.AddrPort{}
	}
	return canonical(a)
}

func boundTo(ln net.Listener) netip.AddrPort {
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		return canonical(a)
	}
	return netip.AddrPort{}
}

func canonical(a *net.TCPAddr) netip.AddrPort {
	ip := a.AddrPort().Addr().Unmap()
	if !ip.IsValid() || ip.IsUnspecified() {
		ip = netip.IPv6Unspecified()
	}
	return netip.AddrPortFrom(ip, uint16(a.Port))
}

// Adopt makes a listener of a listening socket's descriptor, and closes that. The file of a Unix socket is not removed
// when the listener is closed: it may be somebody else's.
func Adopt(f *os.File) (net.Listener, error) {
	ln, err := net.FileListener(f)
	_ = f.Close()
	if err != nil {
		return nil, fmt.Errorf("descriptor %s is not a listening socket: %w", f.Name(), err)
	}
	return ln, nil
}

// disown lets a listener be closed without removing its file, where it is one of a Unix socket.
func disown(ln net.Listener) {
	if u, ok := ln.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(false)
	}
}

// duplicate returns another descriptor of a socket or file. What is asked of it does not touch the flags that both
// share: making it blocking, as net's File and Fd do, would block who accepts.
func duplicate(c syscall.Conn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	dup, errno := -1, syscall.Errno(0)
	if err := raw.Control(func(fd uintptr) {
		var n uintptr
		if n, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0); errno == 0 {
			dup = int(n)
		}
	}); err != nil {
		return -1, err
	}
	if errno != 0 {
		return -1, errno
	}
	return dup, nil
}
