package http2

import (
	"gateway.internal/dataplane/internal/exchange"
)

// headers takes the start of a header list in: a request's, or that of its trailers.
func (c *connection) headers(h *frameHead, payload []byte) error {
	if h.stream == 0 || h.stream%2 == 0 {
		return codeProtocol
	}
	fragment, err := unpad(h, payload)
	if err != nil {
		return codeProtocol
	}
	itself := false // depends on itself, in a scheme of priorities that nobody uses any more
	if h.has(flagPriority) {
		if len(fragment) < 5 {
			return codeFrameSize
		}
		itself = parseDependency(fragment) == h.stream
		fragment = fragment[5:]
	}
	if h.has(flagEndHeaders) {
		return c.side.list(h.stream, fragment, h.has(flagEndStream), itself)
	}
	c.block = append(c.block[:0], fragment...)
	c.blockID, c.blockEnd, c.blockParts = h.stream, h.has(flagEndStream), 0
	return nil
}

// readBlocks is how many times as large as is allowed a header list may be that is still read, and refused as one
// message's: one that is larger ends the connection with all that is under way on it.
const readBlocks = 2

func (c *connection) continuation(h *frameHead, payload []byte) error {
	if c.blockID == 0 {
		return codeProtocol
	}
	c.blockParts++
	if c.blockParts > c.maxParts || len(c.block)+len(payload) > readBlocks*c.maxBlock {
		return codeEnhanceCalm
	}
	c.block = append(c.block, payload...)
	if !h.has(flagEndHeaders) {
		return nil
	}
	id := c.blockID
	c.blockID = 0
	err := c.side.list(id, c.block, c.blockEnd, false)
	c.block = nil
	return err
}

func (c *connection) decode(block []byte) error {
	if _, err := c.decoder.Write(block); err != nil {
		return codeCompression
	}
	if err := c.decoder.Close(); err != nil {
		return codeCompression
	}
	return nil
}

func parseDependency(b []byte) uint32 {
	return (uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])) & maxWindow
}

// trailers ends a stream's body.
func (c *connection) trailers(id uint32, block []byte, end bool) error {
	var s *streamFlow
	var ignored, open, closed, opaque bool
	c.locked(func() {
		s = c.streams[id]
		ignored = s != nil && s.reset && !s.peerReset || s == nil && c.wasForgotten(id)
		open = s != nil && !s.reset && !s.remoteEnded
		closed = s == nil || s.localEnded && s.remoteEnded && !s.reset
		opaque = s != nil && s.opaque
	})
	var nowhere exchange.Header
	c.fields.begin(&nowhere, ofTrailers)
	if err := c.decode(block); err != nil {
		return err
	}
	switch {
	case ignored:
		return c.spend()
	case closed:
		return codeStreamClosed
	case !open:
		return c.refuseStream(id, codeStreamClosed)
	case !end || opaque || c.fields.malformed != "" || c.fields.tooLarge:
		return c.refuseStream(id, codeProtocol)
	}
	short := false
	c.locked(func() {
		if c.streams[id] != s { // its exchange has ended meanwhile, and what was the stream may be another one's
			return
		}
		if short = s.declared > 0; short || s.reset {
			return
		}
		for _, f := range nowhere.Fields() {
			if f.InTrailers() {
				s.trailer.Append(f)
			}
		}
		s.came(true)
	})
	if short {
		return c.refuseStream(id, codeProtocol)
	}
	return nil
}
