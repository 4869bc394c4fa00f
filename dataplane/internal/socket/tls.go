package socket

import (
	"crypto/tls"
	"net"
	"os"
	"sync"
)

// Beneath is the connection under a *tls.Conn. With it, a Conn over TLS waits without a buffer, as one without TLS does, can tell
// whether TLS holds something that came and was not read, and sends several records at once.
type Beneath struct {
	net.Conn
	fd    int   // -1: not known
	owner *Conn // the Conn over TLS, once there is one that knows fd

	// The reading goroutine's.
	refuse bool // reads fail at once
	direct bool // reads are the socket's own calls, and don't wait
	dry    bool // the last such read took everything: another would find nothing

	// TLS answers some of what it reads, such as a key update, from the reading goroutine: mu keeps that apart from what is being written.
	mu     sync.Mutex
	corked []byte // what is held back to be sent at once, nil while nothing is
	hasty  bool   // writes don't wait: what the peer does not take at once is owed
	owed   []byte
}

// NewBeneath wraps a connection that TLS is going to be spoken on.
func NewBeneath(nc net.Conn) *Beneath { return &Beneath{Conn: nc, fd: -1} }

// Read implements net.Conn.
func (b *Beneath) Read(p []byte) (int, error) {
	switch {
	case b.refuse:
		return 0, os.ErrDeadlineExceeded // to TLS a passing error: what it holds of a record stays
	case b.direct:
		return b.readDirect(p)
	}
	return b.Conn.Read(p)
}

// Write implements net.Conn.
func (b *Beneath) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.corked == nil {
		return b.send(p)
	}
	if len(b.corked)+len(p) > cap(b.corked) {
		if err := b.flush(); err != nil {
			return 0, err
		}
	}
	if len(p) > cap(b.corked) {
		return b.send(p)
	}
	b.corked = append(b.corked, p...)
	return len(p), nil
}

// cork makes writes wait until uncork.
func (b *Beneath) cork(s Size) {
	b.mu.Lock()
	b.corked = Take(s)[:0]
	b.mu.Unlock()
}

// uncork sends what has been held back, or drops it.
func (b *Beneath) uncork(send bool) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if send {
		err = b.flush()
	}
	Give(b.corked[:cap(b.corked)])
	b.corked = nil
	return err
}

// flush is called with the mutex held.
func (b *Beneath) flush() error {
	if len(b.corked) == 0 {
		return nil
	}
	_, err := b.send(b.corked)
	b.corked = b.corked[:0]
	return err
}

// send writes behind what is owed. The mutex is held.
func (b *Beneath) send(p []byte) (int, error) {
	sent := 0
	if len(b.owed) == 0 {
		if !b.hasty {
			return b.writeDirect(p)
		}
		var err error
		if sent, err = b.offerDirect(p); err != nil {
			return sent, err
		}
	}
	b.owed = append(b.owed, p[sent:]...)
	return len(p), nil
}

func (b *Beneath) owes() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.owed) > 0
}

// settle writes what is owed, and waits for the peer to take it.
func (b *Beneath) settle() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	owed := b.owed
	b.owed = nil
	if len(owed) == 0 {
		return nil
	}
	_, err := b.writeDirect(owed)
	return err
}

func (c *Conn) initTLS() {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return
	}
	if c.beneath, ok = t.NetConn().(*Beneath); ok {
		c.initBeneath()
	}
}

// writeTLSNow is WriteNow over TLS.
func (c *Conn) writeTLSNow(p []byte) error {
	if c.aborted.Load() {
		return os.ErrDeadlineExceeded
	}
	b := c.beneath
	b.mu.Lock()
	b.hasty = true
	b.mu.Unlock()
	err := c.writeTLS(p, nil)
	b.mu.Lock()
	b.hasty = false
	b.mu.Unlock()
	return err
}

// writeTLS sends a and then b. What is more than one record goes out together: each would be a system call otherwise.
func (c *Conn) writeTLS(a, b []byte) error {
	const record = 16 << 10
	if len(a)+len(b) <= record && len(b) == 0 {
		_, err := c.nc.Write(a)
		return err
	}
	size := BodySize
	if len(a)+len(b) > size.Bytes() {
		size = LargeSize
	}
	c.beneath.cork(size)
	_, err := c.nc.Write(a)
	if err == nil && len(b) > 0 {
		_, err = c.nc.Write(b)
	}
	if e := c.beneath.uncork(err == nil); err == nil {
		err = e
	}
	return err
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
