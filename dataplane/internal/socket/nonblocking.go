package socket

import "os"

// In a loop a connection is nonblocking: Write never waits, and keeps what the peer does not take at once until
// FlushPending.

// CanLoop reports whether the connection can be registered with a loop.
func (c *Conn) CanLoop() bool { return c.raw != nil || c.transportRaw != nil }

// HasPending reports whether Write or WriteNonblocking has kept bytes. The first Write that may wait sends them too.
func (c *Conn) HasPending() bool {
	return len(c.pending) > 0 || c.transport != nil && c.transport.hasPending()
}

// WriteNonblocking writes what the peer takes at once, and keeps the rest until FlushPending.
func (c *Conn) WriteNonblocking(b []byte) error {
	switch {
	case c.raw != nil:
		nonblocking := c.nonblocking
		c.nonblocking = true
		err := c.writeRaw(b, nil)
		c.nonblocking = nonblocking
		return err
	case c.transportRaw != nil:
		return c.writeTLSNonblocking(b)
	}
	c.keepPending(b, nil) // what it takes can't be seen
	return nil
}

// FlushPending writes what was kept, and waits as Write does.
func (c *Conn) FlushPending() error {
	c.limits.write()
	return c.flushPending()
}

func (c *Conn) flushPending() error {
	pending := c.pending
	c.pending = nil
	if c.transport != nil {
		if err := c.transport.flushPending(); err != nil {
			return err
		}
	}
	if len(pending) == 0 {
		return nil
	}
	return c.write(pending, nil)
}

func (c *Conn) keepPending(a, b []byte) {
	c.pending = append(append(c.pending, a...), b...)
}

// Receive appends what there is to the buffer, without waiting. It reports whether there was something; io.EOF is the
// peer's end.
func (c *Conn) Receive() (bool, error) {
	c.more = false
	if c.aborted.Load() {
		return false, os.ErrDeadlineExceeded
	}
	if c.transport != nil {
		return c.receiveTLS()
	}
	c.readN, c.readErr = 0, nil
	if !c.receive(c.fd) {
		return false, nil
	}
	if err := c.readOutcome(); err != nil {
		return false, err
	}
	c.more = c.w == len(c.buf)
	return true, nil
}

// LeftMore reports whether the last Receive may have left something that is not announced any more: bytes that there
// was no room for or, over TLS, the end that came with the bytes.
func (c *Conn) LeftMore() bool { return c.more }

// Offer writes as much of b as the socket takes at once.
func (c *Conn) Offer(b []byte) (int, error) {
	if c.aborted.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	return c.offerRaw(b)
}
