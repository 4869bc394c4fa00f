package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gateway.internal/shared/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a process that can be replaced.
type running struct {
	dir   string
	owner Owner
	// writes tells whether it writes to its data folder, each time that this changes.
	writes chan bool
	// failures is what the log says of successors.
	failures chan string
	// next gets who has replaced it, or nil when it is stopped; stop may be called at any time.
	next chan *Successor
	stop context.CancelFunc
}

// failed is a log for those that are read in tests.
type failed chan string

func (f failed) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (f failed) WithAttrs([]slog.Attr) slog.Handler           { return f }
func (f failed) WithGroup(string) slog.Handler                { return f }
func (f failed) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			f <- a.Value.String()
		}
		return true
	})
	return nil
}

func estate(t *testing.T, dir string) Estate {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	local, err := net.Listen("unix", filepath.Join(dir, "traffic.sock"))
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close(); local.Close(); lock.Close() })
	return Estate{
		Build: "old", Instance: "i", TicketSecret: []byte(strings.Repeat("s", 32)), Lock: lock,
		Sockets: Sockets{{"http", "127.0.0.1:0", tcp}, {"http", "unix:traffic.sock", local}},
	}
}

// run has a process wait for its successors.
func run(t *testing.T, patience patience) *running {
	t.Helper()
	r := &running{dir: t.TempDir(), writes: make(chan bool, 2), failures: make(chan string, 2), next: make(chan *Successor, 1)}
	d, err := Open(r.dir, slog.New(failed(r.failures)))
	if err != nil {
		t.Fatal(err)
	}
	d.patience = patience
	r.owner = Owner{Estate: estate(t, r.dir), GoOn: func() { r.writes <- true }, LetGo: func() Version {
		r.writes <- false
		return Version{Epoch: "e", Revision: 7}
	}}
	r.serve(t, d)
	return r
}

func (r *running) serve(t *testing.T, d *Door) {
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	ended, owner := make(chan struct{}), r.owner
	go func() {
		defer close(ended)
		r.next <- d.Serve(ctx, owner)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		d.Remove()
	})
}

// counted returns how many descriptors are open. Until the test ends, nothing that is forgotten is closed by the
// garbage collector.
func counted(t *testing.T) int {
	t.Helper()
	percent := debug.SetGCPercent(-1)
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	return descriptors(t)
}

// descriptors returns how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(all)
}

// noneLeft waits until no more descriptors are open than before.
func noneLeft(t *testing.T, before int) {
	t.Helper()
	waittest.UntilNil(t, "the descriptors are closed", func() error {
		if now := descriptors(t); now != before {
			return fmt.Errorf("%d descriptors are open, %d were before", now, before)
		}
		return nil
	})
}

// succeed replaces a process, and returns what its successor has of it.
func succeed(t *testing.T, r *running) *Predecessor {
	t.Helper()
	p, err := Knock(t.Context(), r.dir, "new")
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.Ready(t.Context())
	if err != nil || *v != (Version{"e", 7}) {
		t.Fatalf("%v, %v", v, err)
	}
	if err := p.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := waittest.Receive(t, "the process that is replaced", r.next)
	if next == nil || next.PID != os.Getpid() || next.Build != "new" {
		t.Fatalf("it was replaced by %+v", next)
	}
	next.Bye()
	p.Alone(t.Context())
	return p
}

// TestGenerations replaces a process, and what has replaced it in turn: each time all sockets pass over, and those that
// have connected before are accepted after.
func TestGenerations(t *testing.T) {
	r := run(t, usual)
	before := counted(t)
	for generation := range 3 {
		waiting, err := net.Dial("tcp", r.owner.Estate.Sockets[0].Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		p := succeed(t, r)
		if p.PID != os.Getpid() || p.Build != "old" || p.Instance != "i" || len(p.TicketSecret) != 32 || p.Lock == nil || len(p.Sockets) != 2 {
			t.Errorf("generation %d has %+v", generation, p)
		}
		waittest.Receive(t, "letting go", r.writes)
		r.owner.Estate.Sockets.Close()
		_ = r.owner.Estate.Lock.Close()
		c, err := p.Sockets[0].Listener.Accept()
		if err != nil || c.RemoteAddr().String() != waiting.LocalAddr().String() {
			t.Errorf("generation %d accepts %v, %v", generation, c, err)
		}
		_, _ = c.Close(), waiting.Close()
		if local, err := net.Dial("unix", filepath.Join(r.dir, "traffic.sock")); err != nil {
			t.Errorf("generation %d: %v", generation, err)
		} else {
			_ = local.Close()
		}
		r.owner.Estate = p.Estate
		r.serve(t, p.Door(slog.New(failed(r.failures))))
	}
	noneLeft(t, before)
	r.owner.Estate.Sockets.Close()
	_ = r.owner.Estate.Lock.Close()
}

func TestNobodyIsThere(t *testing.T) {
	dir := t.TempDir()
	if _, err := Knock(t.Context(), dir, "new"); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
	dead, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socketPath(dir), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	if _, err := Knock(t.Context(), dir, "new"); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
	d, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another node uses it") {
		t.Error(err)
	}
	d.Remove()
	if _, err := os.Lstat(socketPath(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestReasonBehindAReset holds that a reason is heard which was given by a side that closed with something unread, for
// which the kernel reports a reset first.
func TestReasonBehindAReset(t *testing.T) {
	dir := t.TempDir()
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socketPath(dir), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, word := range []bool{true, false} {
		conn, err := dial(dir)
		if err != nil {
			t.Fatal(err)
		}
		other, err := ln.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		if err := send(conn, &message{kind: kindReady}, nil); err != nil {
			t.Fatal(err)
		}
		if word {
			refuse(other, errors.New("the disk is full"))
		}
		_ = other.Close()
		_, _, err = expect(t.Context(), conn, time.Minute, kindGo)
		if _, ok := errors.AsType[*refusedError](err); ok != word || !word && !errors.Is(err, io.EOF) {
			t.Errorf("with a reason: %t: %v", word, err)
		}
		_ = conn.Close()
	}
}
