package socket

import (
	"crypto/tls"
	"net"
	"os"
	"sync"
)

// Transport is the transport under a *tls.Conn (its NetConn). With it, a Conn over TLS waits without a buffer, as one
// without TLS does, can tell whether TLS holds bytes that were not read, and sends several records at once.
type Transport struct {
	net.Conn
	fd    int   // -1: not known
	owner *Conn // the Conn over TLS, once there is one that knows fd

	// The reading goroutine's.
	refuse bool // reads fail at once
	direct bool // reads are the socket's own calls, and don't wait
	dry    bool // the last such read took everything: another would find nothing

	// TLS answers some of what it reads, such as a key update, from the reading goroutine: mu keeps that apart from
	// what is being written.
	mu          sync.Mutex
	corked      []byte // what is held back to be sent at once, nil while nothing is
	nonblocking bool   // writes don't wait: what the peer does not take at once is pending
	pending     []byte
}

// NewTransport wraps a connection for TLS to be spoken on.
func NewTransport(nc net.Conn) *Transport { return &Transport{Conn: nc, fd: -1} }

// Read implements net.Conn.
func (b *Transport) Read(p []byte) (int, error) {
	switch {
	case b.refuse:
		return 0, os.ErrDeadlineExceeded // to TLS a passing error: what it holds of a record stays
	case b.direct:
		return b.readDirect(p)
	}
	return b.Conn.Read(p)
}

// Write implements net.Conn.
func (b *Transport) Write(p []byte) (int, error) {
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
func (b *Transport) cork(s Size) {
	b.mu.Lock()
	b.corked = Take(s)[:0]
	b.mu.Unlock()
}

// uncork sends what has been held back, or drops it.
func (b *Transport) uncork(send bool) (err error) {
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
func (b *Transport) flush() error {
	if len(b.corked) == 0 {
		return nil
	}
	_, err := b.send(b.corked)
	b.corked = b.corked[:0]
	return err
}

// send writes after what is pending. The mutex is held.
func (b *Transport) send(p []byte) (int, error) {
	sent := 0
	if len(b.pending) == 0 {
		if !b.nonblocking {
			return b.writeDirect(p)
		}
		var err error
		if sent, err = b.offerDirect(p); err != nil {
			return sent, err
		}
	}
	b.pending = append(b.pending, p[sent:]...)
	return len(p), nil
}

// waitNot says which descriptor the socket has, and whether writes are not to wait.
func (b *Transport) waitNot(fd int, nonblocking bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fd, b.nonblocking = fd, nonblocking
}

func (b *Transport) hasPending() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pending) > 0
}

// flushPending writes what is pending, and waits for the peer to take it.
func (b *Transport) flushPending() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	pending := b.pending
	b.pending = nil
	if len(pending) == 0 {
		return nil
	}
	_, err := b.writeDirect(pending)
	return err
}

func (c *Conn) initTLS() {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return
	}
	if c.transport, ok = t.NetConn().(*Transport); ok {
		c.initTransport()
	}
}

// writeTLSNonblocking is WriteNonblocking over TLS.
func (c *Conn) writeTLSNonblocking(p []byte) error {
	if c.aborted.Load() {
		return os.ErrDeadlineExceeded
	}
	b := c.transport
	b.mu.Lock()
	b.nonblocking = true
	b.mu.Unlock()
	err := c.encrypt(p, nil)
	b.mu.Lock()
	b.nonblocking = c.nonblocking
	b.mu.Unlock()
	return err
}

// writeTLS sends a and then b, after what is pending.
func (c *Conn) writeTLS(a, b []byte) error {
	if c.aborted.Load() {
		return os.ErrDeadlineExceeded
	}
	if !c.nonblocking {
		if err := c.transport.flushPending(); err != nil {
			return err
		}
	}
	return c.encrypt(a, b)
}

// encrypt sends a and then b. What is more than one record goes out together: each would be a system call otherwise.
func (c *Conn) encrypt(a, b []byte) error {
	const record = 16 << 10
	if len(a)+len(b) <= record && len(b) == 0 {
		_, err := c.nc.Write(a)
		return err
	}
	size := BodySize
	if len(a)+len(b) > size.Bytes() {
		size = LargeSize
	}
	c.transport.cork(size)
	_, err := c.nc.Write(a)
	if err == nil && len(b) > 0 {
		_, err = c.nc.Write(b)
	}
	if e := c.transport.uncork(err == nil); err == nil {
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
	c.transport.refuse = true
	n, err := c.nc.Read(b)
	c.transport.refuse = false
	return n, err
}

// Drained reports whether nothing is left of what was received, neither here nor in TLS: of what is there, something is
// buffered then. The answer costs no system call.
func (c *Conn) Drained() bool {
	if c.r != c.w {
		return false
	}
	if c.transport == nil {
		return true
	}
	n, err := c.held(c.first[:])
	if n > 0 {
		c.Release()
		c.buf = Take(c.size)
		c.buf[0] = c.first[0]
		c.r, c.w = 0, 1
	}
	return n == 0 && os.IsTimeout(err)
}
