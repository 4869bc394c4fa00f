package socket

import "os"

// CanLoop reports whether loops take the connection in.
func (c *Conn) CanLoop() bool { return c.raw != nil }

// Hasty makes Write keep what the peer does not take at once, instead of waiting for it, until Settle or a Write that may wait. It is
// for responses in loops. Only connections that a Loop takes in can be hasty.
func (c *Conn) Hasty(hasty bool) { c.hasty = hasty }

// Owes reports whether Write has kept something.
func (c *Conn) Owes() bool { return len(c.owed) > 0 }

// Settle writes what was kept, and waits as Write does.
func (c *Conn) Settle() error {
	owed := c.owed
	c.owed = nil
	if len(owed) == 0 {
		return nil
	}
	return c.Write(owed, nil)
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
