package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// packet sends the first n bytes of a message, and all its descriptors.
func packet(t *testing.T, conn *net.UnixConn, m *message, n int, fds []int) {
	t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = syscall.UnixRights(fds...)
	}
	if _, _, err := conn.WriteMsgUnix(m.encode()[:n], oob, nil); err != nil {
		t.Fatal(err)
	}
}

// approach goes as far as a step with a running process: it has said all that comes before it, and heard what is said
// to that.
func approach(t *testing.T, r *running, step kind) *net.UnixConn {
	t.Helper()
	conn, err := dial(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ said, heard kind }{{kindHello, kindOffer}, {kindReady, kindGo}} {
		if x.said >= step {
			break
		}
		if err := send(conn, &message{kind: x.said}, nil); err != nil {
			t.Fatal(err)
		}
		_, files, err := expect(t.Context(), conn, time.Minute, x.heard)
		if err != nil {
			t.Fatal(err)
		}
		closeAll(files)
	}
	return conn
}

// letsGo checks whether the running process has let go of its data folder and taken it back.
func letsGo(t *testing.T, r *running, step kind) {
	t.Helper()
	if step < kindTaken {
		return
	}
	if waittest.Receive(t, "letting go", r.writes) || !waittest.Receive(t, "going on", r.writes) {
		t.Error("the running process does not go on")
	}
}

// TestSuccessorDies at each byte of what it says: the running process says at which step, leaks nothing, goes on, and
// is replaced by the next one.
func TestSuccessorDies(t *testing.T) {
	r := run(t, usual)
	before := counted(t)
	for _, step := range []kind{kindHello, kindReady, kindTaken} {
		m := &message{kind: step}
		for n := range m.encode() {
			conn := approach(t, r, step)
			if n > 0 {
				packet(t, conn, m, n, nil)
			}
			_ = conn.Close()
			if step == kindHello && n == 0 {
				continue // who only knocks is no successor
			}
			says := fmt.Sprintf("it has ended before it said %q", step)
			if n > 0 {
				says = fmt.Sprintf("waiting for %q: ", step)
			}
			if got := waittest.Receive(t, "the failure", r.failures); !strings.HasPrefix(got, says) {
				t.Errorf("%s, %d bytes: %q does not begin with %q", step, n, got, says)
			}
			letsGo(t, r, step)
		}
	}
	noneLeft(t, before)
	p := succeed(t, r)
	p.Fail(nil)
	_ = p.door.Close()
}

// TestSuccessorSaysTheWrongThing at each step, with descriptors that nobody has asked for.
func TestSuccessorSaysTheWrongThing(t *testing.T) {
	r := run(t, usual)
	before := counted(t)
	for _, step := range []kind{kindHello, kindReady, kindTaken} {
		for _, m := range samples() {
			if m.kind == step {
				continue
			}
			for _, fds := range [][]int{nil, {0, 1, 2}, make([]int, m.descriptors())} {
				conn := approach(t, r, step)
				packet(t, conn, m, len(m.encode()), fds)
				got := waittest.Receive(t, "the failure", r.failures)
				if says := fmt.Sprintf("waiting for %q: ", step); !strings.HasPrefix(got, says) && (m.kind != kindRefusal || got != m.text) {
					t.Errorf("%s instead of %s: %q", m.kind, step, got)
				}
				letsGo(t, r, step)
				_ = conn.Close()
			}
		}
	}
	noneLeft(t, before)
}

// learns checks what a successor is told that the running process has given up at a step, and that it can't take over
// any more.
func learns(t *testing.T, conn *net.UnixConn, step kind, says string) {
	t.Helper()
	var err error
	if step == kindTaken {
		err = (&Predecessor{conn: conn, patience: usual}).Take(t.Context())
	} else {
		_, _, err = expect(t.Context(), conn, time.Minute, step)
	}
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: the successor is told %v", step, err)
	}
	_ = conn.Close()
}

// impatient waits for nothing that is not there yet.
var impatient = patience{hello: time.Millisecond, offer: time.Millisecond, ready: time.Millisecond, letGo: time.Millisecond, taken: time.Millisecond, bye: time.Millisecond}

// TestSuccessorIsSilent at each step: the running process does not wait for ever, says for what it has waited, and a
// successor that comes too late learns that it may not accept anything.
func TestSuccessorIsSilent(t *testing.T) {
	for _, step := range []kind{kindHello, kindReady, kindTaken} {
		patience := usual
		switch step {
		case kindHello:
			patience.hello = impatient.hello
		case kindReady:
			patience.ready = impatient.ready
		case kindTaken:
			patience.taken = impatient.taken
		}
		r := run(t, patience)
		before := counted(t)
		conn := approach(t, r, step)
		says := fmt.Sprintf("it has not said %q in time", step)
		if got := waittest.Receive(t, "the failure", r.failures); got != says {
			t.Errorf("%s: %q", step, got)
		}
		letsGo(t, r, step)
		learns(t, conn, step, says)
		noneLeft(t, before)
	}
}

// TestRunningProcessIsStopped while a successor is at each step: the successor learns why.
func TestRunningProcessIsStopped(t *testing.T) {
	for _, step := range []kind{kindHello, kindReady, kindTaken} {
		r := run(t, usual)
		conn := approach(t, r, step)
		if step == kindHello { // Serve has to have accepted it
			if err := send(conn, &message{kind: kindHello}, nil); err != nil {
				t.Fatal(err)
			}
			_, files, err := expect(t.Context(), conn, time.Minute, kindOffer)
			if err != nil {
				t.Fatal(err)
			}
			closeAll(files)
		}
		r.stop()
		if next := waittest.Receive(t, "the end", r.next); next != nil {
			t.Errorf("%s: it was replaced", step)
		}
		learns(t, conn, step, "the running node stops")
	}
}

// TestSuccessorIsInTimeAtTheLastMoment: what it has said before nobody waits any longer counts, since it accepts
// connections by now.
func TestSuccessorIsInTimeAtTheLastMoment(t *testing.T) {
	patience := usual
	patience.taken = -time.Second
	r := run(t, patience)
	for range cap(r.writes) { // LetGo, between the second step and the third, waits for the test
		r.writes <- true
	}
	letGo := sync.OnceFunc(func() {
		for range cap(r.writes) {
			<-r.writes
		}
	})
	defer letGo()
	conn := approach(t, r, kindHello)
	for _, k := range []kind{kindHello, kindReady, kindTaken} {
		if err := send(conn, &message{kind: k}, nil); err != nil {
			t.Fatal(err)
		}
	}
	letGo()
	if next := waittest.Receive(t, "the process that is replaced", r.next); next == nil {
		t.Error("it goes on beside its successor")
	} else {
		next.Bye()
	}
	_ = conn.Close()
}

// broken is a running process that ends within one of its messages.
type broken struct {
	ln   *net.UnixListener
	fds  []int    // what it offers
	step kind     // of the message
	n    int      // how many bytes of it are sent; negative: nothing is, and it does not end either
	m    *message // what is sent instead; nil: what belongs there
}

// serve deals with one successor.
func (b *broken) serve(t *testing.T) error {
	conn, err := b.ln.AcceptUnix()
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, x := range []struct {
		heard kind
		said  *message
	}{
		{kindHello, &message{kind: kindOffer, offer: offer{build: "old", locked: true, names: []name{{"http", ":1"}, {"http", "unix:x"}}}}},
		{kindReady, &message{kind: kindGo, version: Version{"e", 7}}},
		{kindTaken, &message{kind: kindBye}},
	} {
		if _, _, err := expect(t.Context(), conn, time.Minute, x.heard); err != nil {
			return err
		}
		fds := b.fds
		if x.said.kind != kindOffer {
			fds = nil
		}
		switch {
		case x.said.kind != b.step:
			if err := send(conn, x.said, fds); err != nil {
				return err
			}
			continue
		case b.n < 0:
			_, _, _ = receive(t.Context(), conn, time.Minute) // what it is told, or its end
		case b.m != nil:
			return send(conn, b.m, fds)
		case b.n > 0:
			packet(t, conn, x.said, b.n, fds)
		}
		return nil
	}
	return nil
}

func lose(t *testing.T) *broken {
	t.Helper()
	dir := t.TempDir()
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socketPath(dir), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	e := estate(t, dir)
	b := &broken{ln: ln}
	for _, c := range []any{ln, e.Sockets[0].Listener, e.Sockets[1].Listener, e.Lock} {
		fd, err := duplicate(c.(syscall.Conn))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(fd) })
		b.fds = append(b.fds, fd)
	}
	return b
}

func (b *broken) dir() string { return strings.TrimSuffix(b.ln.Addr().String(), "/"+SocketName) }

// follow goes through the steps with a running process; the successor serves when there is no error. All that it got is
// closed.
func (b *broken) follow(t *testing.T, patience patience) (err error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- b.serve(t) }()
	defer func() {
		if e := waittest.Receive(t, "the end of the running process", ended); e != nil && err == nil {
			t.Errorf("the running process: %v", e)
		}
	}()
	p, err := knock(t.Context(), b.dir(), "new", patience)
	if err != nil {
		return err
	}
	sockets := len(p.Sockets)
	_, err = p.Ready(t.Context())
	if err == nil {
		err = p.Take(t.Context())
	}
	if err == nil {
		p.Alone(t.Context())
	}
	p.Fail(err)
	if sockets != 2 {
		t.Errorf("it got %d sockets", sockets)
	}
	return err
}

// TestRunningProcessDies at each byte of what it says: before its offer there is nothing to take over, from then on the
// successor serves. What is torn is an error that says at which step. Nothing leaks.
func TestRunningProcessDies(t *testing.T) {
	b := lose(t)
	before := counted(t)
	for _, step := range []kind{kindOffer, kindGo, kindBye} {
		m := map[kind]*message{
			kindOffer: {kind: kindOffer, offer: offer{build: "old", locked: true, names: []name{{"http", ":1"}, {"http", "unix:x"}}}},
			kindGo:    {kind: kindGo, version: Version{"e", 7}}, kindBye: {kind: kindBye},
		}[step]
		for n := range m.encode() {
			b.step, b.n = step, n
			err := b.follow(t, usual)
			says := ""
			switch {
			case step == kindOffer && n == 0:
				says = `it has ended before it said "offer"`
			case n > 0 && step != kindBye: // who is alone serves, whatever it is told
				says = fmt.Sprintf("waiting for %q: ", step)
			}
			if (err != nil) != (says != "") || err != nil && !strings.Contains(err.Error(), says) {
				t.Errorf("%s, %d bytes: %v, not %q", step, n, err, says)
			}
		}
	}
	noneLeft(t, before)
}

// TestRunningProcessIsSilent at each step.
func TestRunningProcessIsSilent(t *testing.T) {
	b := lose(t)
	before := counted(t)
	for step, says := range map[kind]string{kindOffer: `has not said "offer" in time; perhaps`, kindGo: `has not said "go" in time`, kindBye: ""} {
		patience := usual
		switch step {
		case kindOffer:
			patience.offer = impatient.offer
		case kindGo:
			patience.letGo = impatient.letGo
		case kindBye:
			patience.bye = impatient.bye
		}
		b.step, b.n = step, -1
		err := b.follow(t, patience)
		if (err != nil) != (says != "") || err != nil && (!strings.Contains(err.Error(), says) || !errors.Is(err, os.ErrDeadlineExceeded)) {
			t.Errorf("%s: %v", step, err)
		}
	}
	noneLeft(t, before)
}

// TestOffersThatAreWrong are refused, and nothing of them stays open.
func TestOffersThatAreWrong(t *testing.T) {
	b := lose(t)
	before := counted(t)
	whole := b.fds
	b.step, b.m = kindOffer, &message{kind: kindOffer, offer: offer{locked: true, names: []name{{"http", ":1"}, {"http", "unix:x"}}}}
	for what, test := range map[string]struct {
		fds  []int
		says string
	}{
		"no descriptor":                      {nil, "0 descriptors, not 4"},
		"too few":                            {whole[:3], "3 descriptors, not 4"},
		"too many":                           {append(append([]int(nil), whole...), 0), "5 descriptors, not 4"},
		"a file for a socket":                {[]int{whole[0], whole[3], whole[1], whole[3]}, "not a listening socket"},
		"another socket for the hand-over's": {[]int{whole[1], whole[0], whole[2], whole[3]}, "not that of the hand-over socket"},
	} {
		b.fds = test.fds
		if err := b.follow(t, usual); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	noneLeft(t, before)
}

// TestKnockingIsGivenUp when the successor is stopped meanwhile.
func TestKnockingIsGivenUp(t *testing.T) {
	b := lose(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := b.ln.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _, _ = expect(t.Context(), conn, time.Minute, kindHello)
		cancel()
		_, _, _ = receive(t.Context(), conn, time.Minute)
	}()
	if _, err := Knock(ctx, b.dir(), "new"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	waittest.Receive(t, "the end of the running process", ended)
}
