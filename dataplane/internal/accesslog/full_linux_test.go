package accesslog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roomBytes is less than what the lines of these tests take.
const roomBytes = 64 << 10

// TestFullFile writes more than there is room for, makes room, and writes again: a file system that is full, and a
// limit on the size of files, which can be had everywhere. Each runs in a process of its own.
func TestFullFile(t *testing.T) {
	switch os.Getenv("ACCESSLOG_TEST_FULL") {
	case "tmpfs":
		dir := t.TempDir()
		if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprint("size=", roomBytes)); err != nil {
			fmt.Println("NO TMPFS:", err)
			return
		}
		defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
		path := filepath.Join(dir, "log")
		fill(t, path, func() {
			if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprint("size=", 16*roomBytes)); err != nil {
				t.Fatal(err)
			}
		})
		return
	case "limit":
		path := filepath.Join(t.TempDir(), "log")
		limit(t, roomBytes)
		fill(t, path, func() { limit(t, 16*roomBytes) })
		return
	}
	for _, kind := range []string{"tmpfs", "limit"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestFullFile$", "-test.timeout=2m", "-test.v")
			cmd.Env = append(os.Environ(), "ACCESSLOG_TEST_FULL="+kind)
			if kind == "tmpfs" {
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
				if os.Getuid() != 0 {
					cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
					cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
				}
			}
			out, err := cmd.CombinedOutput()
			if kind == "tmpfs" && (cmd.Process == nil || bytes.Contains(out, []byte("NO TMPFS"))) {
				t.Skipf("no file system can be mounted here: %v %s", err, out)
			}
			if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

func limit(t *testing.T, n uint64) {
	t.Helper()
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &now); err != nil {
		t.Fatal(err)
	}
	now.Cur = n
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &now); err != nil {
		t.Fatal(err)
	}
}

// fill writes until the file is full, and on; then again after room was made.
func fill(t *testing.T, path string, makeRoom func()) {
	t.Helper()
	l, err := Open(Settings{Path: path, Shards: 1}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const each = 700 // of some 250 bytes
	lines := 0
	burst := func() {
		for range each {
			l.Write(record(fmt.Sprint("/", lines)))
			lines++
		}
	}
	look := func(when string) (whole int) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if !json.Valid([]byte(line)) || !strings.HasSuffix(line, "\n") {
				t.Errorf("%s: line %d is %q", when, whole, line)
			}
			whole++
		}
		return whole
	}
	burst()
	until(t, "every line is in the file or counted as dropped", func() bool {
		text, err := os.ReadFile(path)
		return err == nil && count(text)+int(l.dropped.Load()) == each
	})
	full := look("full")
	if full == 0 || full == each {
		t.Errorf("%d of %d lines are in the full file", full, each)
	}
	makeRoom()
	burst()
	l.Close()
	whole, dropped := look("in the end"), int(l.dropped.Load())
	if whole+dropped != lines || whole < full+each {
		t.Errorf("%d lines are in the file, and %d dropped, of %d", whole, dropped, lines)
	}
}

// until waits for what another goroutine does in real time.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for: %s", what)
		}
		<-tick.C
	}
}

// TestFIFOThatNobodyReads opens a FIFO without a reader, fills it and closes the log: none of that waits for one, and
// what is not in it is counted.
func TestFIFOThatNobodyReads(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	l, err := Open(Settings{Path: path}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const lines = 2000
	for i := range lines {
		l.Write(record(fmt.Sprint("/", i)))
	}
	l.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	if whole, dropped := count(text.Bytes()), int(l.dropped.Load()); whole == 0 || whole+dropped != lines {
		t.Errorf("%d lines in the FIFO, and %d dropped, of %d", whole, dropped, lines)
	}
}
