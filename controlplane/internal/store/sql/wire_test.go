package sql

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
)

// wire is a wire to PostgreSQL, in which a COMMIT may fail.
type wire struct {
	*testserver.Wire
	// URL leads to the server through the wire.
	URL string

	mu     sync.Mutex
	commit failure
}

// failure is what happens to the next COMMIT.
type failure int

const (
	none      failure = iota
	cutBefore         // the connection breaks; the server has not got it
	cutAfter          // the server has got it, and its answer is lost
	cutLater          // the connection breaks on this side; the server gets it a moment later
	cutAndDie         // as cutAfter, and nothing gets through any more
	sentTwice         // the server gets it twice, so that there is an answer that nobody has asked for
)

func newWire(t *testing.T, server string) *wire {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	w.Wire = testserver.NewWire(t, u.Host, w.pass)
	u.Host = w.Address
	w.URL = u.String()
	return w
}

// fail sets what happens to the next COMMIT.
func (w *wire) fail(f failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commit = f
}

func (w *wire) pass(client, server net.Conn, message []byte) bool {
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
		exchange(server, message)
	case sentTwice:
		_, _ = server.Write(message)
		return true
	case cutAndDie:
		exchange(server, message)
		w.Refuse()
	}
	return false
}

// exchange sends a message whose answer is lost.
func exchange(server net.Conn, message []byte) {
	if half, ok := server.(*net.TCPConn); ok {
		_, _ = half.Write(message)
		_ = half.CloseWrite()
	}
}
