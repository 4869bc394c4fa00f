//go:build linux && !gateway_plain_sockets

package socket

import (
	"io"
	"net"
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

func (*visitor) Stirred(bool) bool { return true }

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
			t.Errorf("%d guests are left", n)
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

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func TestLoop(t *testing.T) {
	l := loops(t)
	near, far := accepted(t)
	send(t, far, "be")
	v := &visitor{c: near, came: make(chan struct{}, 100)}
	seat, taken := l.Any().Add(near, v, Questions)
	if !taken || !seat.Taken() || l.Len() != 1 {
		t.Fatalf("taken: %v, %d guests", taken, l.Len())
	}
	v.until(t, func() bool { return string(v.got) == "be" }) // had arrived before
	for _, s := range []string{"f", "ore", " and after"} {
		send(t, far, s)
	}
	v.until(t, func() bool { return string(v.got) == "before and after" })
	if _, err := near.Offer([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 6)
	if _, err := io.ReadFull(far, answer); err != nil || string(answer) != "answer" {
		t.Fatalf("%q, %v", answer, err)
	}

	// A guest that has left waits by itself, with time limits, as it did before it came.
	seat.Leave(near)
	if l.Len() != 0 {
		t.Errorf("%d guests", l.Len())
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
		t.Errorf("a guest that had left was called: %q", v.got)
	}

	// It may come back, and sees the end.
	seat, _ = l.Any().Add(near, v, Questions)
	_ = far.Close()
	v.until(t, func() bool { return v.err == io.EOF })
	seat.Leave(near)
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

// What others do to a connection while it is in a loop holds when it has left.
func TestAbortInALoop(t *testing.T) {
	l := loops(t)
	near, far := accepted(t)
	v := &visitor{c: near, came: make(chan struct{}, 100)}
	seat, taken := l.Any().Add(near, v, Questions)
	if !taken {
		t.Fatal("not taken")
	}
	var others sync.WaitGroup
	others.Go(near.Abort)
	others.Go(near.Interrupt)
	others.Wait()
	send(t, far, "late")
	v.until(t, func() bool { return isTimeout(v.err) })
	seat.Leave(near)
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
func TestOwing(t *testing.T) {
	l := loops(t)
	near, far := accepted(t)
	seat, taken := l.Any().Add(near, &visitor{c: near, came: make(chan struct{}, 1000)}, Answers)
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
	if !near.Owes() {
		t.Fatal("the system took all of it")
	}
	seat.Leave(near)
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
	if near.Owes() {
		t.Error("something is owed still")
	}
	reader.Wait()
}

// A guest that is moved brings what has arrived to its new loop, and only to that.
func TestMove(t *testing.T) {
	l := NewLoops(2)
	if l == nil {
		t.Skip("there are no loops on this system")
	}
	defer l.Close()
	near, far := accepted(t)
	v := &visitor{c: near, came: make(chan struct{}, 100)}
	from, to := l.Any(), l.Any()
	seat, taken := from.Add(near, v, Answers)
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
		old := seat
		if seat, taken = seat.Move(near, to); !taken || seat.Loop() != to || l.Len() != 1 {
			t.Fatalf("taken: %v, %d guests", taken, l.Len())
		}
		if found, _ := from.stirred([]event{{Fd: int32(uint32(old.id)), Pad: int32(uint32(old.id >> 32))}}, make([]Guest, 1)); len(found) > 0 {
			t.Error("the loop that it has left calls it")
		}
		if i%2 != 0 {
			send(t, far, word)
		}
		v.until(t, func() bool { return string(v.got) == want })
		from, to = to, from
	}
	seat.Leave(near)
	near.ReadWithin(time.Now(), time.Millisecond)
	if err := near.Fill(); !isTimeout(err) {
		t.Errorf("%v, want a timeout", err)
	}
}

// parcel tells of its way.
type parcel struct {
	name  string
	log   *[]string
	again func()
}

func (p *parcel) Send() bool {
	*p.log = append(*p.log, "send "+p.name)
	return p.again != nil
}

func (p *parcel) Sent() {
	*p.log = append(*p.log, "sent "+p.name)
	p.again()
}

// In a round every guest receives before any is served, and is served before anything is sent.
func TestRound(t *testing.T) {
	var log []string
	l := &Loop{}
	post := func(name string, again func()) func() {
		return func() { l.Post(&parcel{name, &log, again}) }
	}
	third := post("c", nil)
	l.serve([]Guest{
		&step{"1", &log, true, post("a", third)},
		&step{"2", &log, false, nil},
		&step{"3", &log, true, post("b", third)},
	})
	want := "receive 1,receive 2,receive 3,serve 1,serve 3,send a,send b,sent a,sent b,send c,send c"
	if got := strings.Join(log, ","); got != want {
		t.Errorf("the round went\n%s, not\n%s", got, want)
	}
}

// chatter is a guest for whom something arrives whenever it is served.
type chatter struct {
	c   *Conn
	far net.Conn

	mu   sync.Mutex
	over bool
}

func (*chatter) Stirred(bool) bool { return true }

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

// Answers that never cease keep neither questions nor other goroutines from their turn.
func TestAnswersWithoutEnd(t *testing.T) {
	l := loops(t)
	for range 4 * answersAtOnce {
		near, far := accepted(t)
		guest := &chatter{c: near, far: far}
		seat, taken := l.Any().Add(near, guest, Answers)
		if !taken {
			t.Fatal("not taken")
		}
		defer func() {
			guest.end()
			seat.Leave(near)
		}()
		send(t, far, "x")
	}
	for range 3 {
		near, far := accepted(t)
		v := &visitor{c: near, came: make(chan struct{}, 100)}
		seat, taken := l.Any().Add(near, v, Questions)
		if !taken {
			t.Fatal("not taken")
		}
		defer seat.Leave(near)
		send(t, far, "question")
		v.until(t, func() bool { return string(v.got) == "question" })
	}
}

// step is a guest who tells of its steps.
type step struct {
	name   string
	log    *[]string
	served bool
	serve  func()
}

func (*step) Stirred(bool) bool { return true }

func (s *step) Receive() bool {
	*s.log = append(*s.log, "receive "+s.name)
	return s.served
}

func (s *step) Serve() {
	*s.log = append(*s.log, "serve "+s.name)
	s.serve()
}

func (*step) Tick() {}

// A report that is older than the guest who sits where it is about is nobody's.
func TestStaleReport(t *testing.T) {
	l := loops(t).Any()
	near, _ := accepted(t)
	v := &visitor{c: near, came: make(chan struct{}, 1)}
	report := func(s Seat) int {
		found, _ := l.stirred([]event{{Fd: int32(uint32(s.id)), Pad: int32(uint32(s.id >> 32))}}, make([]Guest, 1))
		return len(found)
	}
	before, _ := l.Add(near, v, Questions)
	if n := report(before); n != 1 {
		t.Errorf("%d guests are called, not 1", n)
	}
	before.Leave(near)
	if n := report(before); n != 0 {
		t.Errorf("%d guests are called, and none is there", n)
	}
	now, _ := l.Add(near, v, Questions)
	if uint32(now.id) != uint32(before.id) {
		t.Fatal("the seat is another one")
	}
	if n := report(before); n != 0 {
		t.Errorf("%d guests are called for one who has left", n)
	}
	now.Leave(near)
}

func TestTicks(t *testing.T) {
	l := loops(t)
	for range 2 { // they begin anew when there are guests again
		near, _ := accepted(t)
		v := &visitor{c: near, came: make(chan struct{}, 1)}
		seat, taken := l.Any().Add(near, v, Questions)
		if !taken {
			t.Fatal("not taken")
		}
		waittest.Until(t, "three ticks", func() bool {
			v.mu.Lock()
			defer v.mu.Unlock()
			return v.ticks > 2
		})
		seat.Leave(near)
	}
}

// Guests come and go while others are stirred: nobody is called for another one's arrivals.
func TestLoopUnderChange(t *testing.T) {
	l := loops(t)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			near, far := accepted(t)
			v := &visitor{c: near, came: make(chan struct{}, 10_000)}
			want := ""
			for i := range 50 {
				seat, taken := l.Any().Add(near, v, Kind(i%2))
				if !taken {
					t.Error("not taken")
					return
				}
				word := string(rune('a' + i%26))
				want += word
				send(t, far, word)
				v.until(t, func() bool { return string(v.got) == want })
				seat.Leave(near)
			}
		})
	}
	all.Wait()
}
