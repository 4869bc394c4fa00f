package testserver

import (
	"net"
	"sync"
	"testing"
)

// Wire is a proxy for TCP that fails as networks do. It is safe for concurrent use.
type Wire struct {
	// Address is where it listens, HOST:PORT.
	Address string

	ln   net.Listener
	pass func(client, server net.Conn, message []byte) bool
	all  sync.WaitGroup

	mu     sync.Mutex
	target string
	open   chan struct{} // closed: bytes flow
	down   bool
	conns  map[net.Conn]bool
}

// NewWire starts a wire that leads to a server, HOST:PORT. It ends with the test. pass, unless it is nil, sees what
// clients send before the server gets it, and returns false to end the connection instead.
func NewWire(t testing.TB, target string, pass func(client, server net.Conn, message []byte) bool) *Wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{Address: ln.Addr().String(), target: target, ln: ln, pass: pass, open: make(chan struct{}),
		conns: map[net.Conn]bool{}}
	close(w.open)
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
		w.Cut()
		w.Thaw()
		w.all.Wait()
	})
	return w
}

// Lead makes new connections lead to another server.
func (w *Wire) Lead(target string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.target = target
}

// Freeze lets nothing through, in both directions. Connections stay, and new ones are accepted.
func (w *Wire) Freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = make(chan struct{})
}

// Thaw lets through what has waited.
func (w *Wire) Thaw() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.open:
	default:
		close(w.open)
	}
}

// Refuse resets new connections, until Mend.
func (w *Wire) Refuse() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
}

// Cut resets all connections, and new ones at once, until Mend.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	for c := range w.conns {
		reset(c)
	}
}

// Mend ends Cut and Refuse.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
}

func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// hold keeps a connection in mind, so that it can be cut; false: it is cut now.
func (w *Wire) hold(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		reset(c)
		return false
	}
	w.conns[c] = true
	return true
}

func (w *Wire) release(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
	_ = c.Close()
}

// state returns where new connections lead, and what is closed while bytes flow.
func (w *Wire) state() (target string, open <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.target, w.open
}

func (w *Wire) carry(client net.Conn) {
	if !w.hold(client) {
		return
	}
	defer w.release(client)
	target, open := w.state()
	<-open
	server, err := net.Dial("tcp", target)
	if err != nil || !w.hold(server) {
		return
	}
	defer w.release(server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.flow(client, server, nil)
	}()
	w.flow(server, client, w.pass)
	<-done
}

// flow copies until one side ends, and ends the other one.
func (w *Wire) flow(to, from net.Conn, pass func(client, server net.Conn, message []byte) bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		_, open := w.state()
		<-open
		if n > 0 && pass != nil && !pass(from, to, buf[:n]) {
			_ = from.Close()
			_ = to.Close()
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}
