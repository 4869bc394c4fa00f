package socket

import (
	"crypto/tls"
	"net"
	"os"
)

// Beneath is the connection under a *tls.Conn. With it, a Conn over TLS waits without a buffer, as one without TLS does, and can tell
// whether TLS holds something that came and was not read.
type Beneath struct {
	net.Conn
	refuse bool // reads fail at once; the reading goroutine's
}

// NewBeneath wraps a connection that TLS is going to be spoken on.
func NewBeneath(nc net.Conn) *Beneath { return &Beneath{Conn: nc} }

// Read implements net.Conn.
func (b *Beneath) Read(p []byte) (int, error) {
	if b.refuse {
		return 0, os.ErrDeadlineExceeded // to TLS a passing error: what it holds of a record stays
	}
	return b.Conn.Read(p)
}

func (c *Conn) initTLS() {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return
	}
	if c.beneath, ok = t.NetConn().(*Beneath); ok {
		c.initPeek(c.beneath.Conn)
	}
}

// fillTLS waits for the first byte without a buffer, and takes what else TLS has decrypted.
func (c *Conn) fillTLS() error {
	n, err := c.nc.Read(c.first[:])
	if n == 0 {
		return noProgress(err)
	}
	c.buf = Take(c.size)
	c.buf[0] = c.first[0]
	c.r, c.w = 0, 1
	n, _ = c.held(c.buf[1:])
	c.w += n
	return nil
}

// held reads what TLS has without a look at the socket.
func (c *Conn) held(b []byte) (int, error) {
	c.beneath.refuse = true
	n, err := c.nc.Read(b)
	c.beneath.refuse = false
	return n, err
}

// Drained reports whether nothing is left of what was received, neither here nor in TLS. The answer costs no system call.
func (c *Conn) Drained() bool {
	if c.r != c.w {
		return false
	}
	if c.beneath == nil {
		return true
	}
	n, err := c.held(c.first[:])
	return n == 0 && os.IsTimeout(err)
}
