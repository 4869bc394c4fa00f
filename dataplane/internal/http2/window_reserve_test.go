package http2

import (
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/waittest"
)

// shared is a connection to a service as its streams' windows see it.
func shared(window int64) *connection {
	c := &connection{streams: map[uint32]*streamFlow{}, peerWindow: window, sendWindow: window}
	c.reserve.widen(window)
	return c
}

// fill sends a stream's body for as long as nothing has to be waited for, and returns how much that was.
func (c *connection) fill(f *streamFlow) int64 {
	before := c.sendWindow
	for part := make([]byte, maxFrameBytes); ; {
		left, _ := f.put(part, false)
		c.out.pending = c.out.pending[:0]
		if len(left) == len(part) {
			return before - c.sendWindow
		}
	}
}

func (c *connection) upload(read bool) *streamFlow {
	return &streamFlow{c: c, sendWindow: c.peerWindow, read: read}
}

// What streams take of the connection's window that the service does not read leaves the others something.
func TestSharesOfTheWindow(t *testing.T) {
	for _, c := range []struct {
		name   string
		window int64
		// each is what each of 90 further streams has, last what the 110th has, at least.
		each, last int64
	}{
		{"as large as that of most servers", 64 << 10, 256, 16},
		{"as large as that of net/http", 1 << 20, 4 << 10, 172},
		{"very large", maxWindow, maxShare, 4 << 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := shared(c.window)
			defer func() { give(l.out.pending) }()
			if n := l.fill(l.upload(false)); n <= c.window/2 || n == c.window {
				t.Errorf("the first stream takes %d of %d bytes; servers may grant more only after half a window", n, c.window)
			}
			for i := range 110 {
				n := l.fill(l.upload(false))
				if i < 90 && n < c.each || n < c.last {
					t.Fatalf("stream %d has %d bytes of the window", i+2, n)
				}
			}
		})
	}
}

// A stream that the service reads has nearly all of the window, beside one that it does not read too.
func TestSharesOfStreamsThatAreRead(t *testing.T) {
	for _, c := range []struct{ window, alone int64 }{{64 << 10, 64800}, {1 << 20, 15 << 16}} {
		l := shared(c.window)
		if n := l.fill(l.upload(true)); n < c.alone || n == c.window {
			t.Errorf("of %d bytes, %d alone", c.window, n)
		}
		give(l.out.pending)
		l = shared(c.window)
		l.fill(l.upload(false))
		if n := l.fill(l.upload(true)); n < c.window/4 {
			t.Errorf("of %d bytes, %d beside one that is not read", c.window, n)
		}
		give(l.out.pending)
	}
}

// A connection whose window is used up takes streams with a body only where there is no other one, and all the others
// as before.
func TestLoadOfAConnectionWithoutWindow(t *testing.T) {
	c, f, peer := newClientConn(t)
	stream := c.Begin(2, true)
	x := &exchange.Exchange{}
	x.Request.Method, x.Request.Path, x.Request.Host, x.Request.ContentLength = "POST", "/", "a", -1
	left, _, err := stream.Send(x, make([]byte, 2*initialWindow), false, time.Minute)
	if err != nil || len(left) == 0 {
		t.Fatalf("%d bytes are left, %v", len(left), err)
	}
	skipPreface(t, peer)
	readUntil[*xhttp2.DataFrame](t, f)
	done := make(chan error, 1)
	go func() { done <- stream.SendBody(x, left, false, time.Minute) }()
	waittest.Until(t, "the body waits for the window", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.starving) == 1
	})
	load := func(body bool, want int) {
		t.Helper()
		if n, ok := c.Load(body); n != want || !ok {
			t.Errorf("body: %t; the load is %d, %t; want %d", body, n, ok, want)
		}
	}
	waitFor := func(d time.Duration) {
		c.mu.Lock()
		c.scarce = time.Now().Add(-d)
		c.mu.Unlock()
	}
	waitFor(0)
	load(true, 1)
	waitFor(usedUpAfter)
	load(true, MaxLoad+1)
	load(false, 1)
	if c.Begin(MaxLoad, true) != nil {
		t.Error("a stream with a body begins")
	}
	if other := c.Begin(2, false); other == nil {
		t.Error("no stream without a body begins")
	} else {
		other.Release(time.Now())
	}
	stream.Abort()
	if err := waittest.Receive(t, "the end of the body", done); err == nil {
		t.Error("all of the body was sent")
	}
	load(true, 1)
	stream.Release(time.Now())
}
