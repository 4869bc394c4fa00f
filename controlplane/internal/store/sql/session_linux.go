package sql

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnacknowledged ends connections whose other side does not acknowledge what was sent.
func limitUnacknowledged(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var err error
	if control := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
	}); control != nil {
		return control
	}
	return err
}
