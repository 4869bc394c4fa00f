//go:build unix

package listener

import (
	"fmt"
	"os"
	"syscall"
)

// lockFolder waits until no other process holds the lock of a folder, and returns what gives it back.
func lockFolder(path string) (unlock func(), err error) {
	folder, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		_ = folder.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = folder.Close() }, nil
}

// restrict gives a socket its mode before it has a file: Linux makes the file with it, so that nobody slips in before
// its mode is set.
func restrict(c syscall.RawConn, mode SocketMode) error {
	return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(mode)) })
}

// descriptors returns how many files the process may have open.
func descriptors() (uint64, bool) {
	var r syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r)
	return uint64(r.Cur), err == nil //nolint:unconvert // some systems have it signed
}
