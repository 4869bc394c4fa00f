package testserver

import (
	"io"
	"net"
	"testing"
	"time"
)

// TestWire: what is frozen arrives later, and what is cut is over.
func TestWire(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	w := NewWire(t, ln.Addr().String(), nil)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", w.Address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	answer := make([]byte, 1)
	echo := func(c net.Conn) error {
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, answer)
		return err
	}
	c := dial()
	if err := echo(c); err != nil {
		t.Fatal(err)
	}
	w.Freeze()
	late := dial()
	answered := make(chan error, 2)
	for _, c := range []net.Conn{c, late} {
		go func() {
			_, err := c.Write([]byte("x"))
			if err == nil {
				_, err = io.ReadFull(c, make([]byte, 1))
			}
			answered <- err
		}()
	}
	select {
	case err := <-answered:
		t.Errorf("while it is frozen: %v", err)
	default:
	}
	w.Thaw()
	for range 2 {
		if err := <-answered; err != nil {
			t.Errorf("after it was frozen: %v", err)
		}
	}
	w.Cut()
	again, err := net.Dial("tcp", w.Address) // which may be told before it is used, or then
	if err == nil {
		defer again.Close()
		_ = again.SetDeadline(time.Now().Add(time.Minute))
		err = echo(again)
	}
	if echo(c) == nil || err == nil {
		t.Error("it is cut, and answers")
	}
	w.Mend()
	if err := echo(dial()); err != nil {
		t.Errorf("mended: %v", err)
	}
}
