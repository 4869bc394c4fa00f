package listener

import (
	"net"
	"os"
	"time"
)

// keepAlive is how it is found out that a client of an open connection has vanished.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 6}

// Adopt serves on a socket that another process has opened, as AdoptSocket has it.
func Adopt(ln net.Listener, set Settings, owned bool) *Listener {
	return serving(AdoptSocket(ln, owned), set)
}

// AdoptSocket makes a socket that another process has opened like one of Bind. owned tells that the file of a Unix
// socket is this process's by now: it is removed in the end, as if this process had made it.
func AdoptSocket(ln net.Listener, owned bool) net.Listener {
	switch l := ln.(type) {
	case *net.TCPListener:
		return keepAliveListener{l}
	case *net.UnixListener:
		l.SetUnlinkOnClose(false)
		path := l.Addr().String()
		if file, err := os.Lstat(path); err == nil && owned {
			return &fileListener{UnixListener: l, path: path, file: file}
		}
	}
	return ln
}

// Socket returns the listening socket.
func (l *Listener) Socket() net.Listener { return l.ln }

// keepAliveListener gives connections the keep-alive that Listen's would have.
type keepAliveListener struct{ *net.TCPListener }

// Accept implements net.Listener.
func (l keepAliveListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	_ = c.SetKeepAliveConfig(keepAlive)
	return c, nil
}
