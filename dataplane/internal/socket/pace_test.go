//go:build linux && !gateway_plain_sockets

package socket

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// pair returns both ends of a TCP connection that holds little of what is sent.
func pair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	dialed, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near, far = accepted.(*net.TCPConn), dialed.(*net.TCPConn)
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	_ = near.SetWriteBuffer(4 << 10)
	return near, far
}

// A peer that takes little at a time is cut when that is less than it has to, and not when it is enough, however long
// all of it takes.
func TestWritePace(t *testing.T) {
	const size = 2 << 20
	for name, c := range map[string]struct {
		least int64
		err   error
	}{"enough": {1, nil}, "too little": {1 << 40, ErrTooSlow}} {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t)
			read := make(chan int64)
			go func() {
				n, _ := io.Copy(io.Discard, far)
				read <- n
			}()
			conn := New(near)
			conn.SetWritePace(Pace{Least: c.least, Over: time.Microsecond})
			conn.WriteWithin(time.Now(), waittest.Limit)
			if err := conn.Write(make([]byte, 1000), make([]byte, size)); !errors.Is(err, c.err) {
				t.Errorf("got %v, want %v", err, c.err)
			}
			_ = conn.Close()
			if n := <-read; (n == size+1000) != (c.err == nil) {
				t.Errorf("%d bytes arrived", n)
			}
		})
	}
}

// A peer that takes nothing is cut by the deadline.
func TestWriteToNobody(t *testing.T) {
	near, _ := pair(t)
	conn := New(near)
	conn.SetWritePace(Pace{Least: 1, Over: time.Minute})
	conn.WriteWithin(time.Now(), 10*time.Millisecond)
	var timeout net.Error
	if err := conn.Write(make([]byte, 8<<20), nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("got %v", err)
	}
}

func TestPace(t *testing.T) {
	p := Pace{Least: 100, Over: time.Minute}
	for i, c := range []struct {
		waited time.Duration
		n      int
		ok     bool
	}{{59 * time.Second, 0, true}, {time.Second, 6000, true}, {30 * time.Second, 10_000, true}, {30 * time.Second, 0, true}, {30 * time.Second, 2999, true}, {30 * time.Second, 3000, false}} {
		if ok := p.Add(c.waited, c.n); ok != c.ok {
			t.Errorf("step %d: %v", i, ok)
		}
	}
	var none Pace
	if !none.Add(time.Hour, 0) {
		t.Error("the zero value has a least rate")
	}
}
