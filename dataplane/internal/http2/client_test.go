package http2

import (
	"io"
	"net"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/waittest"
)

// newClientConn returns a client and the other end of its connection, after the first frames.
func newClientConn(t *testing.T) (*ClientConn, *xhttp2.Framer, net.Conn) {
	t.Helper()
	nc, peer := pair(t)
	c := NewClientConn(nc, "http", false, nil, nil)
	t.Cleanup(c.Close)
	return c, xhttp2.NewFramer(peer, peer), peer
}

// pair returns the two ends of a connection; the second one is closed with the test.
func pair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	ours, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = theirs.SetDeadline(waittest.Deadline())
	t.Cleanup(func() { _ = theirs.Close() })
	return ours, theirs
}

func skipPreface(t *testing.T, peer io.Reader) {
	t.Helper()
	if _, err := io.ReadFull(peer, make([]byte, len(preface))); err != nil {
		t.Fatal(err)
	}
}

// ask sends a GET on a new call, in a goroutine of its own.
func ask(t *testing.T, c *ClientConn, limit int) (*ClientStream, chan error) {
	t.Helper()
	stream := c.Begin(limit, false)
	if stream == nil {
		t.Fatal("no stream can begin")
	}
	x := &exchange.Exchange{}
	x.Request.Method, x.Request.Path, x.Request.Host = "GET", "/", "a"
	done := make(chan error, 1)
	go func() {
		_, _, err := stream.Send(x, nil, true, time.Minute)
		stream.Release(time.Now())
		done <- err
	}()
	return stream, done
}

func readUntil[T xhttp2.Frame](t *testing.T, f *xhttp2.Framer) T {
	t.Helper()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := fr.(T); ok {
			return got
		}
	}
}

func TestSilentEndpointIsGivenUp(t *testing.T) {
	c, f, peer := newClientConn(t)
	_, done := ask(t, c, 10)
	if _, err := io.ReadFull(peer, make([]byte, len(preface))); err != nil {
		t.Fatal(err)
	}
	readUntil[*xhttp2.HeadersFrame](t, f)
	now := time.Now()
	if !c.Check(now.Add(silence/2), time.Minute) {
		t.Fatal("given up at once")
	}
	if !c.Check(now.Add(silence+time.Second), time.Minute) {
		t.Fatal("given up without being asked")
	}
	readUntil[*xhttp2.PingFrame](t, f)
	if c.Check(now.Add(silence+time.Second+pingPatience+time.Second), time.Minute) {
		t.Fatal("not given up")
	}
	if err := <-done; err == nil {
		t.Fatal("the stream has an answer")
	}
	if c.Begin(10, false) != nil {
		t.Fatal("another stream began")
	}
}

// That nothing came while the endpoint owed nothing is no silence.
func TestSilenceBeginsWithACall(t *testing.T) {
	c, f, peer := newClientConn(t)
	c.heard.Store(-int64(time.Minute)) // that long ago
	stream, done := ask(t, c, 10)
	skipPreface(t, peer)
	readUntil[*xhttp2.HeadersFrame](t, f)
	now := time.Now()
	for _, after := range []time.Duration{0, silence - time.Second, silence + time.Second} {
		c.Check(now.Add(after), time.Minute)
		c.mu.Lock()
		asked := !c.asked.IsZero()
		c.mu.Unlock()
		if asked != (after > silence) {
			t.Errorf("asked whether it is there %s after the first stream began: %t", after, asked)
		}
	}
	readUntil[*xhttp2.PingFrame](t, f)
	stream.Abort()
	if err := <-done; err == nil {
		t.Error("an aborted stream has an answer")
	}
}

func TestPingKeepsTheConnection(t *testing.T) {
	c, f, peer := newClientConn(t)
	stream, done := ask(t, c, 10)
	if _, err := io.ReadFull(peer, make([]byte, len(preface))); err != nil {
		t.Fatal(err)
	}
	readUntil[*xhttp2.HeadersFrame](t, f)
	_ = f.WriteSettings() // or nothing else may come
	<-c.told
	asked := time.Now().Add(silence + time.Second)
	c.Check(asked, time.Minute)
	ping := readUntil[*xhttp2.PingFrame](t, f)
	c.heard.Store(0)
	_ = f.WritePing(true, ping.Data)
	waittest.Until(t, "the ping's answer was heard", func() bool { return c.heard.Load() != 0 })
	c.heard.Store(int64(asked.Add(time.Second).Sub(c.born))) // as when it arrives then
	if !c.Check(asked.Add(pingPatience+time.Second), time.Minute) {
		t.Error("given up although it answered")
	}
	stream.Abort()
	if err := <-done; err == nil {
		t.Error("an aborted stream has an answer")
	}
}

func TestUnusedClientEnds(t *testing.T) {
	c, _, peer := newClientConn(t)
	now := time.Now()
	if !c.Check(now.Add(time.Second), time.Minute) {
		t.Fatal("ended too early")
	}
	if c.Check(now.Add(2*time.Minute), time.Minute) {
		t.Fatal("still usable")
	}
	if _, err := io.Copy(io.Discard, peer); err != nil {
		t.Fatal(err)
	}
}

func TestRetiredClientEndsWithItsLastCall(t *testing.T) {
	c, f, peer := newClientConn(t)
	stream, done := ask(t, c, 1)
	if c.Begin(1, false) != nil {
		t.Fatal("a stream began beyond the limit")
	}
	if _, err := io.ReadFull(peer, make([]byte, len(preface))); err != nil {
		t.Fatal(err)
	}
	readUntil[*xhttp2.HeadersFrame](t, f)
	c.Retire()
	if c.Begin(10, false) != nil {
		t.Fatal("a stream began on a retired connection")
	}
	stream.Abort()
	<-done
	_, _ = io.Copy(io.Discard, peer)
}
