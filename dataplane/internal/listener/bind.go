package listener

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// unixPrefix begins the addresses of Unix sockets.
const unixPrefix = "unix:"

// maxSocketPath is the longest path of a socket, in bytes, that Linux takes (sun_path).
const maxSocketPath = 107

// DefaultSocketMode is the mode of socket files where nothing else is said.
const DefaultSocketMode SocketMode = 0o660

// SocketMode is the mode of the file of a Unix socket: whoever may write to it may connect. It is a flag's value, in
// octal.
type SocketMode fs.FileMode

// String returns the mode in octal.
func (m *SocketMode) String() string { return fmt.Sprintf("%04o", uint32(*m)) }

// Set reads a mode from 0000 to 0777 in octal.
func (m *SocketMode) Set(text string) error {
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n > 0o777 {
		return errors.New("has to be a file mode in octal from 0000 to 0777, such as 0660")
	}
	*m = SocketMode(n)
	return nil
}

// Type names the kind of value that a flag takes.
func (m *SocketMode) Type() string { return "mode" }

// Bind opens an address: HOST:PORT, "unix:PATH", or, on Linux, "unix:@NAME" for a socket in the abstract namespace,
// which has no file and no mode. The file of a Unix socket that nobody listens at is replaced; that of a live process
// is an error. It is removed when the listener is closed, unless another one has taken its place.
func Bind(address string, mode SocketMode) (net.Listener, error) {
	path, local := strings.CutPrefix(address, unixPrefix)
	switch {
	case !local:
		lc := net.ListenConfig{KeepAliveConfig: keepAlive}
		return lc.Listen(context.Background(), "tcp", address)
	case path == "" || path == "@":
		return nil, fmt.Errorf("%q: has to be unix:PATH or unix:@NAME", address)
	case len(path) > maxSocketPath:
		return nil, fmt.Errorf("%q: the path of a Unix socket may have %d bytes; this one has %d", address, maxSocketPath, len(path))
	case path[0] != '@':
		return bindFile(path, mode)
	case runtime.GOOS != "linux":
		return nil, fmt.Errorf("%q: only Linux has sockets without a file", address)
	}
	return net.Listen("unix", path)
}

// bindFile opens a socket with a file. The folder is locked meanwhile, so that of two processes that find a dead socket
// only one replaces it.
func bindFile(path string, mode SocketMode) (net.Listener, error) {
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeDead(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return restrict(c, mode) }}
	ln, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	l := &fileListener{UnixListener: ln.(*net.UnixListener), path: path}
	l.UnixListener.SetUnlinkOnClose(false)
	if err := os.Chmod(path, fs.FileMode(mode)); err != nil { // the process's umask may have taken something away
		_ = ln.Close()
		_ = os.Remove(path)
		return nil, err
	}
	if l.file, err = os.Lstat(path); err != nil {
		_ = ln.Close()
		return nil, err
	}
	return l, nil
}

// removeDead makes room for a socket: it removes one that nobody listens at.
func removeDead(path string) error {
	file, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case file.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket: move it away, or choose another path", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("%s is in use: a live process listens at it", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is there, and it can't be told whether a process listens at it: %w", path, err)
	}
	return os.Remove(path)
}

// fileListener removes its socket's file when it is closed.
type fileListener struct {
	*net.UnixListener
	path string
	file fs.FileInfo
	left bool // to another process, with the file
}

// SetUnlinkOnClose says whether the file is removed when the listener is closed.
func (l *fileListener) SetUnlinkOnClose(on bool) { l.left = !on }

// Close stops listening. The file stays if it is another listener's by now.
func (l *fileListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && !l.left && os.SameFile(now, l.file) {
		_ = os.Remove(l.path)
	}
	return l.UnixListener.Close()
}
