//go:build linux && !gateway_plain_sockets

package socket

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// visitor receives what arrives in a loop.
type visitor struct {
	c     *Conn
	mu    sync.Mutex
	got   []byte
	err   error
	ticks int
	came  chan struct{}
}

func (*visitor) OnReadable(bool) bool { return true }

func (*visitor) Receive() bool { return true }

func (v *visitor) Serve() {
	v.mu.Lock()
	for {
		got, err := v.c.Receive()
		if !got {
			v.err = err
			break
		}
		v.got = append(v.got, v.c.Buffered()...)
		v.c.Consume(len(v.c.Buffered()))
		v.c.Release()
	}
	v.mu.Unlock()
	v.came <- struct{}{}
}

func (v *visitor) Tick() {
	v.mu.Lock()
	v.ticks++
	v.mu.Unlock()
}

// until waits for something to come until it holds.
func (v *visitor) until(t *testing.T, holds func() bool) {
	t.Helper()
	end := time.NewTimer(waittest.Limit)
	defer end.Stop()
	for {
		v.mu.Lock()
		ok := holds()
		v.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-v.came:
		case <-end.C:
			t.Fatalf("it never came to that: %q, %v", v.got, v.err)
		}
	}
}

func loops(t *testing.T) *Loops {
	t.Helper()
	l := NewLoops(1)
	if l == nil {
		t.Skip("there are no loops on this system")
	}
	t.Cleanup(func() {
		if n := l.Len(); n != 0 {
			t.Errorf("%d handlers are left", n)
		}
		l.Close()
		if n := InUse.Load(); n != 0 {
			t.Errorf("%d buffers are in use", n)
		}
	})
	return l
}

// accepted returns both ends of a connection.
func accepted(t *testing.T) (near *Conn, far net.Conn) {
	t.Helper()
	nc, far := pair(t)
	near = New(nc)
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	return near, far
}

// acceptedTLS is accepted with TLS between the ends.
func acceptedTLS(t *testing.T) (near *Conn, far net.Conn) {
	t.Helper()
	certificates := httptest.NewUnstartedServer(nil)
	certificates.StartTLS()
	certificates.Close()
	nc, peer := pair(t)
	server := tls.Server(NewTransport(nc), certificates.TLS)
	client := tls.Client(peer, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error)
	go func() { done <- client.Handshake() }()
	if err := errors.Join(server.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	near = New(server)
	t.Cleanup(func() {
		_ = near.Close()
		_ = client.Close()
	})
	return near, client
}

// onBoth runs a test on connections with TLS and without.
func onBoth(t *testing.T, test func(t *testing.T, accepted func(t *testing.T) (near *Conn, far net.Conn))) {
	t.Run("plain", func(t *testing.T) { test(t, accepted) })
	t.Run("TLS", func(t *testing.T) { test(t, acceptedTLS) })
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func TestLoop(t *testing.T) { onBoth(t, testLoop) }

func testLoop(t *testing.T, accepted func(t *testing.T) (near *Conn, far net.Conn)) {
	l := loops(t)
	near, far := accepted(t)
	send(t, far, "be")
	v := &visitor{c: near, came: make(chan struct{}, 100)}
	reg, taken := l.Any().Add(near, v, Downstream)
	if !taken || !reg.Taken() || l.Len() != 1 {
		t.Fatalf("taken: %v, %d handlers", taken, l.Len())
	}
	v.until(t, func() bool { return string(v.got) == "be" }) // had arrived before
	for _, s := range []string{"f", "ore", " and after"} {
		send(t, far, s)
	}
	v.until(t, func() bool { return string(v.got) == "before and after" })
	if err := near.Write([]byte("answer"), nil); err != nil { // it does not wait
		t.Fatal(err)
	}
	answer := make([]byte, 6)
	if _, err := io.ReadFull(far, answer); err != nil || string(answer) != "answer" {
		t.Fatalf("%q, %v", answer, err)
	}

	// A handler that has left waits by itself, with time limits, as it did before it came.
	reg.Leave(near)
	if l.Len() != 0 {
		t.Errorf("%d handlers", l.Len())
	}
	send(t, far, "alone")
	near.ReadWithin(time.Now(), waittest.Limit)
	if err := near.Fill(); err != nil || string(near.Buffered()) != "alone" {
		t.Fatalf("%q, %v", near.Buffered(), err)
	}
	near.Consume(5)
	near.Release()
	near.ReadWithin(time.Now(), time.Millisecond)
	if err := near.Fill(); !isTimeout(err) {
		t.Errorf("%v, want a timeout", err)
	}
	if string(v.got) != "before and after" {
		t.Errorf("a handler that had left was called: %q", v.got)
	}

	// It may come back, and sees the end.
	reg, _ = l.Any().Add(near, v, Downstream)
	_ = far.Close()
	v.until(t, func() bool { return v.err == io.EOF })
	reg.Leave(near)
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

// What others do to a connection while it is in a loop holds when it has left.
func TestAbortInALoop(t *testing.T) { onBoth(t, testAbortInALoop) }

func testAbortInALoop(t *testing.T, accepted func(t *testing.T) (near *Conn, far net.Conn)) {
	l := loops(t)
	near, far := accepted(t)
	v := &visitor{c: near, came: make(chan struct{}, 100)}
	reg, taken := l.Any().Add(near, v, Downstream)
	if !taken {
		t.Fatal("not taken")
	}
	var others sync.WaitGroup
	others.Go(near.Abort)
	others.Go(near.Interrupt)
	others.Wait()
	send(t, far, "late")
	v.until(t, func() bool { return isTimeout(v.err) })
	reg.Leave(near)
	near.ReadWithin(time.Now(), 10*time.Second)
	near.WriteWithin(time.Now(), 10*time.Second)
	if err := near.Fill(); !isTimeout(err) {
		t.Errorf("%v, want a timeout", err)
	}
	if err := near.Write([]byte("x"), nil); err == nil {
		t.Error("an aborted connection was written to")
	}
}

// What a peer does not take at once is kept in a loop, and sent afterwards, in order.
func TestPendingWrites(t *testing.T) { onBoth(t, testPendingWrites) }

func testPendingWrites(t *testing.T, accepted func(t *testing.T) (near *Conn, far net.Conn)) {
	l := loops(t)
	near, far := accepted(t)
	reg, taken := l.Any().Add(near, &visitor{c: near, came: make(chan struct{}, 1000)}, Upstream)
	if !taken {
		t.Fatal("not taken")
	}
	_ = far.SetDeadline(waittest.Deadline())
	part := make([]byte, 1<<20)
	for i := range part {
		part[i] = byte(i >> 8)
	}
	const parts = 2
	for range parts {
		if err := near.Write(part[:1000], part[1000:]); err != nil {
			t.Fatal(err)
		}
	}
	if !near.HasPending() {
		t.Fatal("the system took all of it")
	}
	reg.Leave(near)
	var reader sync.WaitGroup
	reader.Go(func() {
		got := make([]byte, len(part))
		for i := range parts {
			if _, err := io.ReadFull(far, got); err != nil || string(got) != string(part) {
				t.Errorf("part %d is not what was sent: %v", i, err)
			}
		}
		if _, err := io.ReadFull(far, got[:4]); err != nil || string(got[:4]) != "last" {
			t.Errorf("%q, %v", got[:4], err)
		}
	})
	near.WriteWithin(time.Now(), 10*time.Second)
	if err := near.Write([]byte("last"), nil); err != nil {
		t.Fatal(err)
	}
	if near.HasPending() {
		t.Error("something is pending still")
	}
	reader.Wait()
}

// A handler that is moved brings what has arrived to its new loop, and only to that.
func TestMove(t *testing.T) { onBoth(t, testMove) }

func testMove(t *testing.T, accepted func(t *testing.T) (near *Conn, far net.Conn)) {
	l := NewLoops(2)
	if l == nil {
		t.Skip("there are no loops on this system")
	}
	defer l.Close()
	near, far := accepted(t)
	v := &visitor{c: near, came: make(chan struct{}, 100)}
	from, to := l.Any(), l.Any()
	reg, taken := from.Add(near, v, Upstream)
	if !taken {
		t.Fatal("not taken")
	}
	want := ""
	for i := range 20 {
		word := string(rune('a' + i))
		want += word
		if i%2 == 0 {
			send(t, far, word)
		}
		old := reg
		if reg, taken = reg.Move(near, to); !taken || reg.Loop() != to || l.Len() != 1 {
			t.Fatalf("taken: %v, %d handlers", taken, l.Len())
		}
		stale := []event{{Fd: int32(uint32(old.id)), Pad: int32(uint32(old.id >> 32))}}
		if found, _ := from.ready(stale, make([]EventHandler, 1)); len(found) > 0 {
			t.Error("the loop that it has left calls it")
		}
		if i%2 != 0 {
			send(t, far, word)
		}
		v.until(t, func() bool { return string(v.got) == want })
		from, to = to, from
	}
	reg.Leave(near)
	near.ReadWithin(time.Now(), time.Millisecond)
	if err := near.Fill(); !isTimeout(err) {
		t.Errorf("%v, want a timeout", err)
	}
}

// TestReceiveTLS sees that nothing that TLS has is left where no arrival will announce it: bytes that there was no room
// for, and an end that came with bytes.
func TestReceiveTLS(t *testing.T) {
	l := loops(t)
	near, far := acceptedTLS(t)
	v := &visitor{c: near, came: make(chan struct{}, 1000)}
	reg, taken := l.Any().Add(near, v, Downstream)
	if !taken {
		t.Fatal("not taken")
	}
	long := strings.Repeat("0123456789abcdef", 10_000)
	send(t, far, long)
	v.until(t, func() bool { return string(v.got) == long })
	reg.Leave(near)

	// No loop takes a connection of which TLS holds something, and nothing of that is lost.
	send(t, far, "words")
	one := make([]byte, 1)
	_ = near.nc.SetReadDeadline(waittest.Deadline())
	if _, err := near.nc.Read(one); err != nil || string(one) != "w" {
		t.Fatalf("%q, %v", one, err)
	}
	if _, taken = l.Any().Add(near, v, Downstream); taken {
		t.Fatal("a loop takes it")
	}
	for len(near.Buffered()) < len("ords") {
		near.ReadWithin(time.Now(), waittest.Limit)
		if err := near.Fill(); err != nil {
			t.Fatal(err)
		}
	}
	if string(near.Buffered()) != "ords" {
		t.Errorf("%q", near.Buffered())
	}
	near.Consume(len("ords"))
	near.Release()

	// The end comes with the last bytes, and the connection itself does not end.
	if reg, taken = l.Any().Add(near, &visitor{c: near, came: make(chan struct{}, 1000)}, Downstream); !taken {
		t.Fatal("not taken")
	}
	reg.Leave(near)
	send(t, far, "last")
	if err := far.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "bytes and the end come", func() bool {
		got, err := near.Receive()
		if err != nil {
			t.Fatal(err)
		}
		return got && near.LeftMore()
	})
	if string(near.Buffered()) != "last" {
		t.Errorf("%q", near.Buffered())
	}
	if _, err := near.Receive(); err != io.EOF {
		t.Errorf("%v, want the end", err)
	}
	near.Consume(4)
	near.Release()
}

// write logs its calls.
type write struct {
	name  string
	log   *[]string
	again func()
}

func (w *write) Send() bool {
	*w.log = append(*w.log, "send "+w.name)
	return w.again != nil
}

func (w *write) Sent() {
	*w.log = append(*w.log, "sent "+w.name)
	w.again()
}

// In an iteration every handler receives before any is served, and is served before anything is sent.
func TestIteration(t *testing.T) {
	var log []string
	l := &Loop{}
	post := func(name string, again func()) func() {
		return func() { l.Post(&write{name, &log, again}) }
	}
	third := post("c", nil)
	l.serve([]EventHandler{
		&step{"1", &log, true, post("a", third)},
		&step{"2", &log, false, nil},
		&step{"3", &log, true, post("b", third)},
	})
	want := "receive 1,receive 2,receive 3,serve 1,serve 3,send a,send b,sent a,sent b,send c,send c"
	if got := strings.Join(log, ","); got != want {
		t.Errorf("the iteration went\n%s, not\n%s", got, want)
	}
}

// chatter is a handler for which something arrives whenever it is served.
type chatter struct {
	c   *Conn
	far net.Conn

	mu   sync.Mutex
	over bool
}

func (*chatter) OnReadable(bool) bool { return true }

func (c *chatter) Receive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	got, _ := c.c.Receive()
	c.c.Consume(len(c.c.Buffered()))
	c.c.Release()
	return got
}

// end makes nobody receive from the connection any more.
func (c *chatter) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
}

func (c *chatter) Serve() { _, _ = c.far.Write([]byte("x")) }

func (*chatter) Tick() {}

// Upstream events that never cease keep neither downstream ones nor other goroutines waiting.
func TestUpstreamEventsWithoutEnd(t *testing.T) {
	l := loops(t)
	for range 4 * upstreamBatch {
		near, far := accepted(t)
		handler := &chatter{c: near, far: far}
		reg, taken := l.Any().Add(near, handler, Upstream)
		if !taken {
			t.Fatal("not taken")
		}
		defer func() {
			handler.end()
			reg.Leave(near)
		}()
		send(t, far, "x")
	}
	for range 3 {
		near, far := accepted(t)
		v := &visitor{c: near, came: make(chan struct{}, 100)}
		reg, taken := l.Any().Add(near, v, Downstream)
		if !taken {
			t.Fatal("not taken")
		}
		defer reg.Leave(near)
		send(t, far, "request")
		v.until(t, func() bool { return string(v.got) == "request" })
	}
}

// step is a handler that logs its calls.
type step struct {
	name   string
	log    *[]string
	served bool
	serve  func()
}

func (*step) OnReadable(bool) bool { return true }

func (s *step) Receive() bool {
	*s.log = append(*s.log, "receive "+s.name)
	return s.served
}

func (s *step) Serve() {
	*s.log = append(*s.log, "serve "+s.name)
	s.serve()
}

func (*step) Tick() {}

// An event that is older than the registration calls nobody.
func TestStaleReport(t *testing.T) {
	l := loops(t).Any()
	near, _ := accepted(t)
	v := &visitor{c: near, came: make(chan struct{}, 1)}
	report := func(s Registration) int {
		found, _ := l.ready([]event{{Fd: int32(uint32(s.id)), Pad: int32(uint32(s.id >> 32))}}, make([]EventHandler, 1))
		return len(found)
	}
	before, _ := l.Add(near, v, Downstream)
	if n := report(before); n != 1 {
		t.Errorf("%d handlers are called, not 1", n)
	}
	before.Leave(near)
	if n := report(before); n != 0 {
		t.Errorf("%d handlers are called, and none is registered", n)
	}
	now, _ := l.Add(near, v, Downstream)
	if uint32(now.id) != uint32(before.id) {
		t.Fatal("the slot is another one")
	}
	if n := report(before); n != 0 {
		t.Errorf("%d handlers are called for one that has left", n)
	}
	now.Leave(near)
}

func TestTicks(t *testing.T) {
	l := loops(t)
	for range 2 { // they begin anew when there are handlers again
		near, _ := accepted(t)
		v := &visitor{c: near, came: make(chan struct{}, 1)}
		reg, taken := l.Any().Add(near, v, Downstream)
		if !taken {
			t.Fatal("not taken")
		}
		waittest.Until(t, "three ticks", func() bool {
			v.mu.Lock()
			defer v.mu.Unlock()
			return v.ticks > 2
		})
		reg.Leave(near)
	}
}

// Handlers come and go while others are called: nobody is called for another one's arrivals.
func TestLoopUnderChange(t *testing.T) {
	l := loops(t)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			near, far := accepted(t)
			v := &visitor{c: near, came: make(chan struct{}, 10_000)}
			want := ""
			for i := range 50 {
				reg, taken := l.Any().Add(near, v, Kind(i%2))
				if !taken {
					t.Error("not taken")
					return
				}
				word := string(rune('a' + i%26))
				want += word
				send(t, far, word)
				v.until(t, func() bool { return string(v.got) == want })
				reg.Leave(near)
			}
		})
	}
	all.Wait()
}
