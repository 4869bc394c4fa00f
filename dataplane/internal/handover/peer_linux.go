package handover

import (
	"net"
	"syscall"
)

// credentials returns the process and the user at the other end of a connection (unix(7), SO_PEERCRED).
func credentials(conn *net.UnixConn) (pid, uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, 0, err
	}
	if credErr != nil {
		return 0, 0, credErr
	}
	return int(cred.Pid), int(cred.Uid), nil
}

// senderSpace is what the sender of a message takes beside it.
var senderSpace = syscall.CmsgSpace(syscall.SizeofUcred)

// nameSenders makes each message that is received come with the process that has sent it (unix(7), SO_PASSCRED). What
// credentials says of an inherited listening socket is the process that has opened it, however often it was passed on
// since.
func nameSenders(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var optErr error
	if err := raw.Control(func(fd uintptr) {
		optErr = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1)
	}); err != nil {
		return err
	}
	return optErr
}

// sender returns the process that a message came from, if that is what is told beside it.
func sender(m *syscall.SocketControlMessage) (pid int, ok bool) {
	cred, err := syscall.ParseUnixCredentials(m)
	if err != nil {
		return 0, false
	}
	return int(cred.Pid), true
}
