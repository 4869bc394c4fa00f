// Package proxyproto reads the header of the PROXY protocol, versions 1 and 2, in which a proxy tells at the start of a
// connection whom it forwards it for (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt). It does not know
// who may be believed.
package proxyproto

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"gateway.internal/dataplane/internal/socket"
)

// MaxHeaderBytes is the longest header that is read. Version 1 has at most 107 bytes, version 2 may have 65,551; what
// proxies add to the addresses there, the largest of which is a client certificate, fits into this.
const MaxHeaderBytes = 4096

// Header is what a proxy says of a connection.
type Header struct {
	// Local is set when the connection is the proxy's own, such as a health check, or when it does not know the client:
	// the connection's own address is the one to use (LOCAL and UNSPEC in version 2, UNKNOWN in version 1).
	Local bool
	// Source is the client's address; the zero value where it has none, as on a Unix socket, or when Local is set.
	Source netip.AddrPort
}

var (
	// ErrSilent is a connection that ended before its first byte, as the checks of some balancers do.
	ErrSilent = errors.New("the connection ended before it said anything")
	// ErrMalformed is a header that the protocol does not allow, or something else than a header. Errors that wrap it say
	// why.
	ErrMalformed = errors.New("no valid PROXY protocol header")
)

// Parse reads the header at the start of b and returns its size. A size of 0 without an error asks for more of it.
func Parse(b []byte) (h Header, size int, err error) {
	switch {
	case startsWith(b, signature):
		return parseBinary(b)
	case startsWith(b, prefix):
		return parseText(b)
	}
	return Header{}, 0, malformed("the connection begins with something else")
}

// startsWith reports whether b begins with s as far as b goes.
func startsWith(b []byte, s string) bool {
	n := min(len(b), len(s))
	return string(b[:n]) == s[:n]
}

func malformed(why string) error { return &refusal{why} }

type refusal struct{ why string }

func (r *refusal) Error() string { return ErrMalformed.Error() + ": " + r.why }
func (r *refusal) Unwrap() error { return ErrMalformed }

// Read takes the header off the start of a connection of the system's, TCP or Unix, and nothing of what follows it. It
// returns os.ErrDeadlineExceeded when the header is not whole in time.
func Read(nc net.Conn, within time.Duration) (Header, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return Header{}, errors.ErrUnsupported
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return Header{}, err
	}
	if err := nc.SetReadDeadline(time.Now().Add(within)); err != nil {
		return Header{}, err
	}
	r := reader{buf: socket.Take(socket.HeadSize)}
	defer socket.Give(r.buf)
	if err := raw.Read(r.readable); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = os.ErrDeadlineExceeded
		}
		return Header{}, err
	}
	if r.err != nil {
		return Header{}, r.err
	}
	return r.header, nc.SetReadDeadline(time.Time{})
}

// reader looks at what has come before it takes it: only then is it known how much of it is the header.
type reader struct {
	buf    []byte
	have   int // bytes of the header that were taken
	header Header
	err    error
}

// readable is called when a read starts, and again whenever the poller says that something happened. It returns true
// when it is done.
func (r *reader) readable(fd uintptr) bool {
	for {
		n, _, err := syscall.Recvfrom(int(fd), r.buf[r.have:MaxHeaderBytes], syscall.MSG_PEEK)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return false
		case err != nil:
			r.err = os.NewSyscallError("recvfrom", err)
			return true
		case n == 0:
			r.err = io.ErrUnexpectedEOF
			if r.have == 0 {
				r.err = ErrSilent
			}
			return true
		}
		header, size, err := Parse(r.buf[:r.have+n])
		if err != nil {
			r.err = err
			return true
		}
		whole := size > 0
		if whole {
			r.header, n = header, size-r.have
		}
		// What was looked at is there, so this takes it at once. Of a header that is not whole everything is taken, so that
		// only more of it, or the connection's end, wakes this up again.
		if err := take(int(fd), r.buf[r.have:r.have+n]); err != nil {
			r.err = err
			return true
		}
		r.have += n
		if whole {
			return true
		}
	}
}

func take(fd int, b []byte) error {
	for {
		n, _, err := syscall.Recvfrom(fd, b, 0)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return os.NewSyscallError("recvfrom", err)
		case n == len(b):
			return nil
		case n == 0:
			return io.ErrUnexpectedEOF
		default:
			b = b[n:]
		}
	}
}
