package systemd

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify("READY=1"); err != nil {
		t.Error(err)
	}
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := Notify("MAINPID=7", "READY=1"); err != nil {
		t.Fatal(err)
	}
	var b [100]byte
	if n, err := manager.Read(b[:]); err != nil || string(b[:n]) != "MAINPID=7\nREADY=1" {
		t.Errorf("%q, %v", b[:n], err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	if err := Notify("READY=1"); err == nil || !strings.Contains(err.Error(), "NOTIFY_SOCKET") {
		t.Error(err)
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
