package http2

import (
	"slices"
	"time"
)

// The shares of the streams in the connection's window, on connections to services: without them one upload that the
// service does not read takes all of the window, and no other upload goes on until it ends.
//
// A service says that it has read something only once it is a good part of the window, for most servers a half, and
// what it has read of one stream adds to what it has read of the others. Therefore no upload is held to less than a
// half of the whole for its own sake: what is kept back is a part of the connection's window, of which every stream
// may have a little, whatever the others have.
const (
	// keptBack is how many sixteenths of the window are kept back from streams that the service has not yet been seen
	// to read.
	keptBack = 7
	// collected is how much most servers read before they say so, at least: they do not say it of a share that is
	// smaller.
	collected = 4 << 10
	// sharers is how many streams may have their whole share of what is kept back at once.
	sharers = 100
	// maxShare is the largest share.
	maxShare = 64 << 10
	// lastShares is the part of what is left of the window that a share is at most: many streams leave something to
	// more than there are shares for.
	lastShares = 8
	// usedUpAfter is how long streams may wait for the connection's window until it counts as used up.
	usedUpAfter = 100 * time.Millisecond
)

// windowReserve is how much of the connection's window streams leave to the others. The zero value, that of connections
// of clients, keeps nothing back.
type windowReserve struct {
	size int64 // of the window, as far as it is known
	kept int64 // is kept back from streams that the service has not yet been seen to read
	read int64 // from the others
	each int64 // of that, a stream may have
}

// widen notes that the window is of a size or larger.
func (s *windowReserve) widen(size int64) {
	if size <= s.size {
		return
	}
	s.each = min(size*keptBack/16/sharers, maxShare)
	s.size, s.kept = size, min(size*keptBack/16, sharers*maxShare)
	// A stream that is read is slower by what it leaves, where windows are small: then it leaves no more than is of use.
	if s.read = s.kept / 8; s.each < collected {
		s.read = s.kept / 64
	}
}

// mayUse returns how much of the connection's window the stream may use. The mutex is held.
func (f *streamFlow) mayUse() int64 {
	c := f.c
	left := c.sendWindow
	if left <= 0 || c.reserve.kept == 0 {
		return left
	}
	kept := c.reserve.kept
	if f.read {
		kept = c.reserve.read
	}
	// What the peer has not granted anew of the stream's window is what the stream holds of the connection's.
	share := min(c.reserve.each, left/lastShares+1) - max(c.peerWindow-f.sendWindow, 0)
	return max(left-kept, share, 0)
}

// widened wakes the streams that may use some of the connection's window, which has just become larger. The mutex is
// held.
func (c *connection) widened() {
	if c.sendWindow > c.reserve.kept {
		c.scarce = time.Time{}
	}
	for _, f := range c.starving {
		if f.mayUse() > 0 {
			wake(f.writable)
		}
	}
}

// usedUp reports whether a request's body would wait for the connection's window. The mutex is held.
func (c *connection) usedUp() bool {
	return len(c.starving) > 0 && !c.scarce.IsZero() && time.Since(c.scarce) >= usedUpAfter
}

// starve says that a stream waits for the connection's window. The mutex is held.
func (c *connection) starve(f *streamFlow, now time.Time) {
	if len(c.starving) == 0 {
		c.starved, c.scarce = now, time.Time{}
	}
	if c.scarce.IsZero() {
		c.scarce = now
	}
	c.starving = append(c.starving, f)
}

// sate says that it does so no more, and reports whether the peer has granted enough meanwhile. The mutex is held.
func (c *connection) sate(f *streamFlow, now time.Time) bool {
	i := slices.Index(c.starving, f)
	c.starving = slices.Delete(c.starving, i, i+1)
	return len(c.starving) > 0 || c.takes.Add(now.Sub(c.starved), 0)
}

// grantedAll reports whether the peer, which grants n bytes to the connection, grants enough where streams wait for
// it. The mutex is held.
func (c *connection) grantedAll(n int64) bool {
	if len(c.starving) == 0 {
		return true
	}
	now := c.clock()
	waited := now.Sub(c.starved)
	c.starved = now
	return c.takes.Add(max(waited, 0), int(n))
}
