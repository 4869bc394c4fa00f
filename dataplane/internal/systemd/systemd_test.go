package systemd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify("READY=1"); err != nil {
		t.Error(err)
	}
	c := manager(t, filepath.Join(t.TempDir(), "notify"))
	if err := Notify("MAINPID=7", "READY=1"); err != nil {
		t.Fatal(err)
	}
	if got := heard(t, c); got != "MAINPID=7\nREADY=1" {
		t.Errorf("%q", got)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	if err := Notify("READY=1"); err == nil || !strings.Contains(err.Error(), "NOTIFY_SOCKET") {
		t.Error(err)
	}
}

// manager listens as the service manager does, at a path or, with "@", in the abstract namespace.
func manager(t *testing.T, address string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", address)
	return c
}

func heard(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	var b [1000]byte
	n, err := c.Read(b[:])
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// TestNotifyReloading holds what is sent against the form of sd_notify(3): the time is that of CLOCK_MONOTONIC, in
// microseconds.
func TestNotifyReloading(t *testing.T) {
	c := manager(t, fmt.Sprintf("@gateway-test-notify-%d", os.Getpid()))
	clock := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		return ts.Sec*1_000_000 + ts.Nsec/1000
	}
	first := clock()
	if err := NotifyReloading(); err != nil {
		t.Fatal(err)
	}
	last := clock()
	line, at, _ := strings.Cut(heard(t, c), "\n")
	text, timed := strings.CutPrefix(at, "MONOTONIC_USEC=")
	if usec, err := strconv.ParseInt(text, 10, 64); line != "RELOADING=1" || !timed || err != nil || usec < first || usec > last {
		t.Errorf("%q, %q: not between %d and %d, %v", line, at, first, last, err)
	}
}

const inChild = "GATEWAY_TEST_SYSTEMD_CHILD"

// TestSockets starts this test anew with sockets, as the service manager would.
func TestSockets(t *testing.T) {
	if os.Getenv(inChild) != "" {
		child(t)
		return
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	socket, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	no, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer no.Close()
	for name, test := range map[string]struct {
		files []*os.File
		env   string
		says  string
	}{
		"a socket":                  {[]*os.File{socket}, "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http", "[http at " + ln.Addr().String() + "]"},
		"those of another process":  {[]*os.File{socket}, "LISTEN_PID=1 LISTEN_FDS=1", "[]"},
		"none":                      {nil, "X=1", "[]"},
		"a number that is none":     {nil, "LISTEN_PID=$$ LISTEN_FDS=many", "LISTEN_FDS"},
		"a file that is no socket":  {[]*os.File{socket, no}, "LISTEN_PID=$$ LISTEN_FDS=2", "not a listening socket"},
		"more than there can be at": {nil, "LISTEN_PID=$$ LISTEN_FDS=1000", "from 0 to"},
	} {
		cmd := exec.Command("sh", "-c", test.env+` exec "$0" -test.run '^TestSockets$' -test.v`, os.Args[0])
		cmd.Env = append(os.Environ(), inChild+"=1")
		cmd.ExtraFiles = test.files
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), test.says) {
			t.Errorf("%s: %v, %s", name, err, out)
		}
	}
}

func child(t *testing.T) {
	all, err := Sockets()
	if err != nil {
		t.Log(err)
		return
	}
	if os.Getenv("LISTEN_FDS") != "" {
		t.Error("a child of this process would take the sockets for its own")
	}
	var names []string
	for i, at := range all.Addresses() {
		names = append(names, all[i].Name+" at "+at)
	}
	t.Log(names)
	all.Close()
}
