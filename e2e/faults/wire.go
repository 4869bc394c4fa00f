package faults

import (
	"net"
	"sync"
	"testing"
)

// wire is a proxy for TCP that fails as networks do.
type wire struct {
	address string
	target  string
	ln      net.Listener
	all     sync.WaitGroup

	mu    sync.Mutex
	open  chan struct{} // closed: bytes flow
	down  bool
	conns map[net.Conn]bool
}

func newWire(t testing.TB, target string) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: ln.Addr().String(), target: target, ln: ln, open: make(chan struct{}), conns: map[net.Conn]bool{}}
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
		w.cut()
		w.thaw()
		w.all.Wait()
	})
	return w
}

// freeze lets nothing through, in both directions. Connections stay, and new ones are accepted.
func (w *wire) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = make(chan struct{})
}

// thaw lets through what has waited.
func (w *wire) thaw() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.open:
	default:
		close(w.open)
	}
}

// cut resets all connections, and new ones at once.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	for c := range w.conns {
		reset(c)
	}
}

// mend ends a cut.
func (w *wire) mend() {
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
func (w *wire) hold(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		reset(c)
		return false
	}
	w.conns[c] = true
	return true
}

func (w *wire) release(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
	_ = c.Close()
}

// gate returns what is closed while bytes flow.
func (w *wire) gate() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open
}

func (w *wire) carry(client net.Conn) {
	if !w.hold(client) {
		return
	}
	defer w.release(client)
	<-w.gate()
	server, err := net.Dial("tcp", w.target)
	if err != nil || !w.hold(server) {
		return
	}
	defer w.release(server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.flow(client, server)
	}()
	w.flow(server, client)
	<-done
}

// flow copies until one side ends, and ends the other one.
func (w *wire) flow(to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		<-w.gate()
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
