package sql

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// wire is a proxy in front of PostgreSQL that fails in the ways that networks do.
type wire struct {
	// URL leads to the server through the wire.
	URL string

	t      *testing.T
	server string
	ln     net.Listener
	all    sync.WaitGroup

	mu     sync.Mutex
	commit failure
	frozen chan struct{} // closed: bytes flow
	down   bool
	conns  []net.Conn
}

// failure is what happens to the next COMMIT.
type failure int

const (
	none      failure = iota
	cutBefore         // the connection breaks; the server has not got it
	cutAfter          // the server has got it, and its answer is lost
	cutLater          // the connection breaks on this side; the server gets it a moment later
	cutAndDie         // as cutAfter, and nothing gets through any more
)

func newWire(t *testing.T, server string) *wire {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, server: u.Host, ln: ln, frozen: make(chan struct{})}
	close(w.frozen)
	u.Host = ln.Addr().String()
	w.URL = u.String()
	w.all.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			w.all.Go(func() { w.carry(client) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		w.thaw()
		w.cutAll()
		w.all.Wait()
	})
	return w
}

// lead makes new connections lead to another server.
func (w *wire) lead(server string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.server = server
}

// fail sets what happens to the next COMMIT.
func (w *wire) fail(f failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commit = f
}

// freeze lets nothing through, while connections stay.
func (w *wire) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = make(chan struct{})
}

func (w *wire) thaw() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.frozen:
	default:
		close(w.frozen)
	}
}

func (w *wire) cutAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	for _, c := range w.conns {
		_ = c.Close()
	}
}

func (w *wire) carry(client net.Conn) {
	defer client.Close()
	w.mu.Lock()
	address := w.server
	w.mu.Unlock()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	w.mu.Lock()
	w.conns = append(w.conns, client, server)
	down := w.down
	w.mu.Unlock()
	if down {
		_ = server.Close()
		return
	}
	w.all.Go(func() {
		defer client.Close()
		w.flow(client, server, func([]byte) bool { return true })
	})
	defer server.Close()
	w.flow(server, client, func(message []byte) bool {
		if !bytes.Contains(bytes.ToLower(message), []byte("commit\x00")) {
			return true
		}
		w.mu.Lock()
		f := w.commit
		w.commit = none
		w.mu.Unlock()
		switch f {
		case none:
			return true
		case cutBefore:
			return false
		case cutLater:
			_ = client.Close()
			<-time.After(300 * time.Millisecond) // the network's delay
			_, _ = server.Write(message)
		case cutAfter:
			w.exchange(server, message)
		case cutAndDie:
			w.exchange(server, message)
			w.mu.Lock()
			w.down = true
			w.mu.Unlock()
		}
		return false
	})
}

// exchange sends a message whose answer is lost.
func (w *wire) exchange(server net.Conn, message []byte) {
	if half, ok := server.(*net.TCPConn); ok {
		_, _ = half.Write(message)
		_ = half.CloseWrite()
	}
}

func (w *wire) flow(to io.Writer, from io.Reader, pass func([]byte) bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		frozen := w.frozen
		w.mu.Unlock()
		<-frozen
		if n > 0 {
			if !pass(buf[:n]) {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
