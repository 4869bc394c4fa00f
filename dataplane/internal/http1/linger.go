package http1

import (
	fifo "container/list"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/socket"
)

// The limits of a lingering close. They are those of nginx's lingering_time and lingering_timeout.
const (
	// lingerTime is how long a client whose request was answered early may go on sending, and lingerIdle how long it
	// may send nothing.
	lingerTime = 30 * time.Second
	lingerIdle = 5 * time.Second
	// maxLingering is how many connections of a server linger at once. One more ends the one that has lingered for the
	// longest.
	maxLingering = 1024
)

// lingering are the connections whose last response has been written, and whose client may still be sending: what it
// sends is read and thrown away until the client closes. Closing before would reset the connection, which takes the
// response away from a client that has not read it yet, above all from one that reads only when it has written its
// whole request (RFC 9112 section 9.6).
type lingering struct {
	total, idle time.Duration
	most        int

	mu    sync.Mutex
	conns fifo.List // of *conn, the longest first
}

// enter makes a connection one of those that linger. It is open until leave.
func (l *lingering) enter(c *conn) *fifo.Element {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns.Len() >= l.most {
		oldest := l.conns.Front()
		oldest.Value.(*conn).sock.Interrupt()
		l.conns.Remove(oldest)
	}
	return l.conns.PushBack(c)
}

func (l *lingering) leave(e *fifo.Element) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns.Remove(e) // nothing where it was made to leave
}

// linger reads what the client still sends.
func (c *conn) linger() {
	if c.req.writeErr != nil || c.sock.CloseWrite() != nil {
		return
	}
	l := &c.server.lingering
	c.sock.ResumeReads()
	at := l.enter(c)
	defer l.leave(at)
	begun := time.Now()
	for now := begun; now.Sub(begun) < l.total; now = time.Now() {
		c.sock.Consume(len(c.sock.Buffered()))
		c.sock.Release() // taken again only when bytes are there
		c.sock.SetSize(socket.BodySize)
		c.sock.ReadWithin(now, min(l.idle, l.total-now.Sub(begun)))
		if c.sock.Fill() != nil {
			return
		}
	}
}
