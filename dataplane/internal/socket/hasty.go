package socket

import "os"

// In a loop a connection is hasty: Write keeps what the peer does not take at once, instead of waiting for it, until Settle.

// CanLoop reports whether loops take the connection in.
func (c *Conn) CanLoop() bool { return c.raw != nil }

// Owes reports whether Write or WriteNow has kept something, which the first Write that may wait sends too.
func (c *Conn) Owes() bool { return len(c.owed) > 0 || c.beneath != nil && c.beneath.owes() }

// WriteNow writes what the peer takes at once, and keeps the rest until Settle.
func (c *Conn) WriteNow(b []byte) error {
	switch {
	case c.raw != nil:
		hasty := c.hasty
		c.hasty = true
		err := c.writeRaw(b, nil)
		c.hasty = hasty
		return err
	case c.under != nil:
		return c.writeTLSNow(b)
	}
	c.owe(b, nil) // what it takes can't be seen
	return nil
}

// Settle writes what was kept, and waits as Write does.
func (c *Conn) Settle() error {
	c.limits.write()
	return c.settle()
}

func (c *Conn) settle() error {
	owed := c.owed
	c.owed = nil
	if c.beneath != nil {
		if err := c.beneath.settle(); err != nil {
			return err
		}
	}
	if len(owed) == 0 {
		return nil
	}
	return c.write(owed, nil)
}

func (c *Conn) owe(a, b []byte) {
	c.owed = append(append(c.owed, a...), b...)
}

// Receive appends what there is to the buffer, without waiting. It reports whether there was something; io.EOF is the peer's end.
func (c *Conn) Receive() (bool, error) {
	if c.aborted.Load() {
		return false, os.ErrDeadlineExceeded
	}
	c.readN, c.readErr = 0, nil
	if !c.receive(c.fd) {
		return false, nil
	}
	if err := c.readOutcome(); err != nil {
		return false, err
	}
	return true, nil
}

// Offer writes as much of b as the socket takes at once.
func (c *Conn) Offer(b []byte) (int, error) {
	if c.aborted.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	return c.offerRaw(b)
}
