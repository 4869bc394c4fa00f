//go:build !linux

package handover

import (
	"errors"
	"net"
	"syscall"
)

// credentials can be had on Linux only; nobody is trusted elsewhere.
func credentials(*net.UnixConn) (pid, uid int, err error) { return 0, 0, errors.ErrUnsupported }

const senderSpace = 0

func nameSenders(*net.UnixConn) error { return errors.ErrUnsupported }

func sender(*syscall.SocketControlMessage) (pid int, ok bool) { return 0, false }
