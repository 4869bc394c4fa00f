package main

import (
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// TestConnectionsAreShared: an address gets half of them where it is alone, another one still gets some, and a place is
// there again once a connection ends.
func TestConnectionsAreShared(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := bound(plain, 4, slog.New(slog.DiscardHandler))
	defer ln.Close()
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	dial := func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.DialContext(t.Context(), "tcp", plain.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(waittest.Limit)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	taken := func(from string) net.Conn {
		t.Helper()
		dial(from)
		select {
		case conn := <-accepted:
			return conn
		case <-time.After(waittest.Limit):
			t.Fatalf("%s is not accepted", from)
			return nil
		}
	}
	refused := func(from string) {
		t.Helper()
		_, err := dial(from).Read(make([]byte, 1))
		if late, is := errors.AsType[net.Error](err); err == nil || is && late.Timeout() {
			t.Errorf("%s is accepted: %v", from, err)
		}
	}
	first := taken("127.0.0.1")
	taken("127.0.0.1")
	refused("127.0.0.1")
	taken("127.0.0.2")
	refused("127.0.0.2")
	for range 2 { // a place is given back once
		_ = first.Close()
	}
	taken("127.0.0.3")
	refused("127.0.0.1")
}
