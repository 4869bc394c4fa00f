package http2

import (
	"sync/atomic"
	"time"
)

// partialData is how much has come of a DATA frame that is not whole yet. A slow client may take minutes for one, which
// is a body that goes on all the same. The reading goroutine sets it, the streams' look at it.
type partialData struct {
	part  atomic.Uint64 // the stream, and how many bytes of its body have come
	since atomic.Int64  // the connection began the last of them came
	last  uint64        // part; the reading goroutine's
}

// note looks at what has come and is no whole frame.
func (c *partialData) note(have []byte, since time.Duration) {
	part := uint64(0)
	if len(have) > frameHeadBytes {
		h := parseFrameHead(have)
		if n := bodyBytes(&h, have[frameHeadBytes:]); n > 0 && h.kind == frameData {
			part = uint64(h.stream)<<32 | uint64(n)
		}
	}
	if part == c.last {
		return
	}
	c.last = part
	c.since.Store(int64(since))
	c.part.Store(part)
}

// bodyBytes returns how many bytes of body are in the first part of a DATA frame's payload.
func bodyBytes(h *frameHead, part []byte) int {
	if !h.has(flagPadded) {
		return len(part)
	}
	return min(len(part)-1, max(h.length-1-int(part[0]), 0)) // the padding comes last
}

// of returns how many bytes of a stream's body have come so, and when the last of them did, or a moment later.
func (c *partialData) of(id uint32) (n int, since time.Duration) {
	part := c.part.Load()
	for {
		since = time.Duration(c.since.Load())
		again := c.part.Load()
		if again == part {
			break
		}
		part = again
	}
	if uint32(part>>32) == id {
		n = int(uint32(part))
	}
	return n, since
}
