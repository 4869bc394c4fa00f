// Package systemd speaks with the service manager: it says how the process is (sd_notify(3)) and takes the sockets that
// were opened for it (sd_listen_fds(3)). Other managers that keep to the same conventions are spoken with too.
package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"gateway.internal/dataplane/internal/handover"
)

// Notify tells the manager lines such as "READY=1"; where there is none it does nothing.
func Notify(lines ...string) error {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	return nil
}

// NotifyReloading tells the manager that the process is being brought up to date, until it or the one that takes its
// place says READY=1. The time with it lets the manager tell it from what an earlier reload has led to: units of
// Type=notify-reload need that.
func NotifyReloading() error {
	lines := []string{"RELOADING=1"}
	if usec, ok := monotonic(); ok {
		lines = append(lines, fmt.Sprintf("MONOTONIC_USEC=%d", usec))
	}
	return Notify(lines...)
}

const (
	// firstSocket is the descriptor of the first socket.
	firstSocket = 3
	maxSockets  = handover.MaxSockets
)

// Sockets returns the listening sockets that were opened for this process, by the names that the manager gave them
// (FileDescriptorName=). They are given once: the variables that announce them are taken out of the environment, so
// that no child takes them for its own.
func Sockets() (handover.Sockets, error) {
	pid, number, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name)
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // they are for whoever started this process
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n > maxSockets {
		return nil, fmt.Errorf("LISTEN_FDS is %q: has to be a number from 0 to %d", number, maxSockets)
	}
	named := strings.Split(names, ":")
	var all handover.Sockets
	for i := range n {
		name := ""
		if i < len(named) {
			name = named[i]
		}
		fd := firstSocket + i
		syscall.CloseOnExec(fd)
		ln, err := handover.Adopt(os.NewFile(uintptr(fd), fmt.Sprintf("%d %s", fd, name)))
		if err != nil {
			all.Close()
			return nil, fmt.Errorf("LISTEN_FDS: %w", err)
		}
		all = append(all, handover.Socket{Name: name, Listener: ln})
	}
	return all, nil
}
