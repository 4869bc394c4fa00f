package http2

import (
	"encoding/binary"
)

func (c *connection) settings(h *frameHead, payload []byte) error {
	switch {
	case h.stream != 0:
		return codeProtocol
	case h.has(flagAck):
		if h.length != 0 {
			return codeFrameSize
		}
		return nil
	case h.length%6 != 0:
		return codeFrameSize
	}
	c.settled = true
	c.mu.Lock()
	defer c.mu.Unlock()
	window, widest := c.peerWindow, c.peerWindow
	for ; len(payload) > 0; payload = payload[6:] {
		value := binary.BigEndian.Uint32(payload[2:])
		switch id := binary.BigEndian.Uint16(payload); id {
		case settingEnablePush:
			if value > 1 {
				return codeProtocol
			}
		case settingInitialWindowSize:
			if value > maxWindow {
				return codeFlowControl
			}
			window = int64(value)
			widest = max(widest, window)
		case settingMaxFrameSize:
			if value < maxFrameBytes || value > 1<<24-1 {
				return codeProtocol
			}
		default:
			c.side.setting(id, value)
		}
	}
	if !c.resize(window, widest) {
		return codeFlowControl
	}
	c.out.pending = appendFrameHead(c.out.buf(), 0, frameSettings, flagAck, 0)
	return c.waitForRoom()
}

// resize gives the windows of all streams another size (RFC 9113 section 6.9.2), once for a whole frame: it may say
// thousands of sizes, of which the last one counts. widest is the largest of them, and resize reports false where that
// one would have made a window too large. The mutex is held.
func (c *connection) resize(window, widest int64) bool {
	if widest == c.peerWindow && window == c.peerWindow {
		return true
	}
	for _, s := range c.streams {
		if s.sendWindow+widest-c.peerWindow > maxWindow {
			return false
		}
		s.sendWindow += window - c.peerWindow
		wake(s.writable)
	}
	c.peerWindow = window
	return true
}

func (c *connection) ping(h *frameHead, payload []byte) error {
	switch {
	case h.stream != 0:
		return codeProtocol
	case h.length != 8:
		return codeFrameSize
	case h.has(flagAck):
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.pending = append(appendFrameHead(c.out.buf(), 8, framePing, flagAck, 0), payload...)
	return c.waitForRoom()
}

// waitForRoom keeps a peer that does not take our answers from making them pile up: it is not read from meanwhile. The
// mutex is held.
func (c *connection) waitForRoom() error {
	for len(c.out.pending) >= maxPending && c.err == nil && c.mute == nil {
		c.out.reader = true
		c.unlocked(func() {
			c.flush()
			<-c.readerRoom
		})
	}
	return nil
}

func (c *connection) windowUpdate(h *frameHead, payload []byte) error {
	if h.length != 4 {
		return codeFrameSize
	}
	paid := false
	c.locked(func() {
		if paid = c.updates > 0; paid {
			c.updates--
		}
	})
	if !paid {
		if err := c.spend(); err != nil {
			return err
		}
	}
	n := int64(binary.BigEndian.Uint32(payload) & maxWindow)
	if h.stream == 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if n == 0 {
			return codeProtocol
		}
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return codeFlowControl
		}
		if c.reserve.size > 0 {
			c.reserve.widen(c.sendWindow)
		}
		if !c.grantedAll(n) {
			return codeEnhanceCalm
		}
		c.widened()
		return nil
	}
	if !c.side.opened(h.stream) {
		return codeProtocol
	}
	if n == 0 {
		return c.refuseStream(h.stream, codeProtocol)
	}
	over := false
	c.locked(func() {
		if s := c.streams[h.stream]; s != nil {
			s.read = s.read || s.sendWindow < c.peerWindow
			s.sendWindow += n
			over = s.sendWindow > maxWindow
			wake(s.writable)
		}
	})
	if over {
		return c.refuseStream(h.stream, codeFlowControl)
	}
	return nil
}

func (c *connection) resetByPeer(h *frameHead, payload []byte) error {
	switch {
	case h.length != 4:
		return codeFrameSize
	case !c.side.opened(h.stream):
		return codeProtocol
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[h.stream]
	if s == nil || s.peerReset {
		return c.spendHeld()
	}
	if !s.reset {
		if err := c.side.brokenOff(s); err != nil {
			return err
		}
	}
	s.peerReset = true
	s.resetWith = code(binary.BigEndian.Uint32(payload))
	s.breakOff(errReset)
	return nil
}

// refuseStream resets a stream for a fault of the client's.
func (c *connection) refuseStream(id uint32, why code) error {
	if err := c.spend(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		if s.reset && !s.peerReset {
			return nil
		}
		if !s.reset {
			if err := c.side.brokenOff(s); err != nil {
				return err
			}
		}
		s.breakOff(errReset)
		s.localEnded = true
	}
	c.forget(id)
	c.out.pending = appendReset(c.out.buf(), id, why)
	return c.waitForRoom()
}

// forget remembers that we have reset a stream: what the peer sent before it knew is ignored (RFC 9113 section 5.1).
// The mutex is held.
func (c *connection) forget(id uint32) {
	at := &c.forgotten[c.nForgotten%len(c.forgotten)]
	c.longForgotten = max(c.longForgotten, *at)
	*at = id
	c.nForgotten++
}

// wasForgotten reports whether we have, or may have, reset a stream that is over: of old ones it is not known any more,
// and the peer is believed. The mutex is held.
func (c *connection) wasForgotten(id uint32) bool {
	if id <= c.longForgotten {
		return true
	}
	for _, f := range c.forgotten {
		if f == id {
			return true
		}
	}
	return false
}

func (c *connection) data(h *frameHead, payload []byte) error {
	if !c.side.opened(h.stream) {
		return codeProtocol
	}
	body, err := unpad(h, payload)
	if err != nil {
		return codeProtocol
	}
	if len(body) == 0 && !h.has(flagEndStream) {
		if err := c.spend(); err != nil {
			return err
		}
	}
	why, err := c.takeData(h, body)
	if err != nil {
		return err
	}
	if why != codeNo {
		return c.refuseStream(h.stream, why)
	}
	return nil
}

// takeData gives what has come to its stream, and returns why that is refused. What it returns as an error ends the
// connection.
func (c *connection) takeData(h *frameHead, body []byte) (why code, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.recv.receive(h.length) {
		return codeNo, codeFlowControl
	}
	c.recv.done(h.length) // whatever becomes of it: what waits counts against the stream's window
	if n := c.recv.grant(connGrant); n > 0 && c.err == nil {
		c.out.pending = appendWindowUpdate(c.out.buf(), 0, n)
	}
	s := c.streams[h.stream]
	switch {
	case s == nil && c.wasForgotten(h.stream), s != nil && s.reset && !s.peerReset:
		// nobody waits for it
	case s == nil || s.remoteEnded || s.peerReset:
		return codeStreamClosed, nil
	default:
		return s.receive(h, body), nil
	}
	return codeNo, nil
}
