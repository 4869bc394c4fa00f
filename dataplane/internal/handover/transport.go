package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// past is a deadline that makes what waits return.
var past = time.Unix(1, 0)

// receive waits for a message, which is the receiver's with its descriptors. The error is io.EOF when the other side
// has ended or died, os.ErrDeadlineExceeded after timeout, and ctx's when it is over.
func receive(ctx context.Context, conn *net.UnixConn, timeout time.Duration) (*message, []*os.File, error) {
	_ = conn.SetReadDeadline(time.Now().Add(timeout))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(past) })
	defer stop()
	b, oob := make([]byte, maxMessageBytes), make([]byte, syscall.CmsgSpace(4*(MaxSockets+2))+senderSpace)
	n, oobn, flags, _, err := conn.ReadMsgUnix(b, oob)
	if errors.Is(err, syscall.ECONNRESET) { // it did not read everything before it closed; what it said before that is behind the error
		n, oobn, flags, _, err = conn.ReadMsgUnix(b, oob)
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, syscall.ECONNRESET) || err == nil && n == 0:
		err = io.EOF
	}
	files, from, rightsErr := controls(oob[:oobn])
	if err == nil {
		err = rightsErr
	}
	if err == nil && flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0 {
		err = errors.New("the message is larger than any of the hand-over")
	}
	var m *message
	if err == nil {
		m, err = decode(b[:n])
	}
	if err == nil && len(files) != m.descriptors() {
		err = fmt.Errorf("%s: it came with %d descriptors, not %d", m.kind, len(files), m.descriptors())
	}
	if err != nil {
		closeAll(files)
		return nil, nil, err
	}
	m.sender = from
	return m, files, nil
}

// controls returns the descriptors that came with a message, and the process that it came from, where nameSenders has
// asked for that.
func controls(oob []byte) (files []*os.File, from int, err error) {
	all, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, 0, fmt.Errorf("descriptors: %w", err)
	}
	for i := range all {
		if pid, ok := sender(&all[i]); ok {
			from = pid
			continue
		}
		fds, err := syscall.ParseUnixRights(&all[i])
		if err != nil {
			continue // another kind of control message
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	return files, from, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// expect receives a message of one kind. The error is a refusedError where the other side gives its reason, otherwise a
// stepError of receive's.
func expect(ctx context.Context, conn *net.UnixConn, timeout time.Duration, want kind) (*message, []*os.File, error) {
	m, files, err := receive(ctx, conn, timeout)
	switch {
	case err != nil:
		return nil, nil, &stepError{kind: want, err: err}
	case m.kind == want:
		return m, files, nil
	}
	closeAll(files)
	if m.kind == kindRefusal {
		return nil, nil, &refusedError{m.text}
	}
	return nil, nil, &stepError{kind: want, err: fmt.Errorf("%s came", m.kind)}
}

// tell sends a message to a side that may have ended: then the error is the reason that it has given, or a stepError of
// io.EOF.
func tell(ctx context.Context, conn *net.UnixConn, m *message, fds []int) error {
	err := send(conn, m, fds)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		last, files, lastErr := receive(ctx, conn, sendTimeout)
		closeAll(files)
		if lastErr == nil && last.kind == kindRefusal {
			return &refusedError{last.text}
		}
		err = io.EOF
	}
	if err != nil {
		return &stepError{kind: m.kind, told: true, err: err}
	}
	return nil
}

// send sends a message with descriptors, which stay the sender's.
func send(conn *net.UnixConn, m *message, fds []int) error {
	_ = conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	var oob []byte
	if len(fds) > 0 {
		oob = syscall.UnixRights(fds...)
	}
	_, _, err := conn.WriteMsgUnix(m.encode(), oob, nil)
	return err
}

// refuse tells the other side why it ends, if it can still hear it.
func refuse(conn *net.UnixConn, err error) {
	_ = send(conn, &message{kind: kindRefusal, text: err.Error()}, nil)
}

// sameUser returns the process at the other end, 0 where that is in a PID namespace that can't be seen. It is an error
// when it is another user's.
func sameUser(conn *net.UnixConn) (pid int, err error) {
	pid, uid, err := credentials(conn)
	if err != nil {
		return 0, fmt.Errorf("the other process can't be told: %w", err)
	}
	if uid != os.Geteuid() {
		return pid, fmt.Errorf("process %d is of user %d, this one of user %d: both have to run as the same user", pid, uid, os.Geteuid())
	}
	return pid, nil
}
