package http2

import (
	"runtime"
	"time"

	"gateway.internal/dataplane/internal/socket"
)

// output is what waits to be sent on a connection. Streams append whole frames under the connection's mutex; one of
// those that have something to send becomes the writer, lets the others that are ready add theirs, and sends it all
// with one call.
type output struct {
	pending []byte // frames to send
	spare   []byte // the buffer that was sent last
	writing bool
	waiting []*streamFlow // for room
	reader  bool          // the reader waits for room
}

// buf returns the buffer to append frames to, with room for two of them. The mutex is held.
func (o *output) buf() []byte { return o.bufFor(2 * maxFrameBytes) }

// bufFor returns the buffer with room for n bytes: what grew by itself would leave a pool's buffer behind. The mutex is
// held.
func (o *output) bufFor(n int) []byte {
	if o.pending != nil && cap(o.pending)-len(o.pending) >= n {
		return o.pending
	}
	var larger []byte
	switch need := len(o.pending) + n; {
	case o.pending == nil && need <= socket.BodySize.Bytes():
		larger = socket.Take(socket.BodySize)[:0]
	case need <= socket.LargeSize.Bytes():
		larger = socket.Take(socket.LargeSize)[:0]
	default: // many responses with large heads
		larger = make([]byte, 0, 2*need)
	}
	larger = append(larger, o.pending...)
	give(o.pending)
	o.pending = larger
	return o.pending
}

// flush sends what is pending, unless somebody else is at it. It does not wait for the peer: whoever calls it has a
// time limit of its own.
func (c *connection) flush() {
	if !c.beginWriting() {
		return
	}
	whole := false
	defer func() {
		if !whole {
			c.torn()
		}
	}()
	runtime.Gosched()
	c.flushPending()
	whole = true
}

// flushPending sends what is pending as the one who is at it.
func (c *connection) flushPending() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out.pending) > 0 && c.err == nil && c.mute == nil {
		b := c.out.pending
		c.out.pending = c.out.spare
		c.out.spare = nil
		if c.out.pending != nil {
			c.out.pending = c.out.pending[:0]
		}
		owes, err := c.write(b)
		if err != nil {
			c.unsent(err)
		}
		c.out.spare = b[:0]
		if owes && c.err == nil {
			c.writers.Go(c.drain)
			return
		}
		c.room()
	}
	if c.mute != nil {
		c.out.pending = c.out.pending[:0]
	}
	c.out.writing = false
	c.release()
}

// torn ends the connection where a panic goes through flush, of which others recover: what was to be sent is lost, and
// nobody else sends while writing is set.
func (c *connection) torn() {
	defer c.sock.Abort() // whatever else is broken
	c.locked(func() {
		c.out.writing = false
		c.fail(errDefect)
	})
}

// beginWriting reports whether there is something to send that nobody is sending.
func (c *connection) beginWriting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.writing || len(c.out.pending) == 0 {
		return false
	}
	c.out.writing = true
	return true
}

// write sends frames without waiting, and without the mutex, which is held. owes tells that the peer did not take all.
func (c *connection) write(b []byte) (owes bool, err error) {
	c.mu.Unlock()
	defer c.mu.Lock()
	err = c.sock.WriteNonblocking(b)
	return err == nil && c.sock.HasPending(), err
}

// drain goes on for a flush whose peer takes no more for now.
func (c *connection) drain() {
	defer c.rescue()
	c.sock.WriteWithin(time.Now(), c.writeTimeout)
	err := c.sock.FlushPending()
	c.locked(func() {
		if err != nil {
			c.unsent(err)
		}
		c.room()
		c.out.writing = false
		c.release()
	})
	c.flush()
}

// room wakes those who wait for others' frames to be sent. The mutex is held.
func (c *connection) room() {
	for i, s := range c.out.waiting {
		wake(s.writable)
		c.out.waiting[i] = nil
	}
	c.out.waiting = c.out.waiting[:0]
	if c.out.reader {
		c.out.reader = false
		wake(c.readerRoom)
	}
}

// release gives the buffers back when nothing waits: an idle connection holds none. The mutex is held.
func (c *connection) release() {
	if len(c.out.pending) > 0 && c.err == nil {
		return
	}
	give(c.out.pending)
	give(c.out.spare)
	c.out.pending, c.out.spare = nil, nil
}

func give(b []byte) {
	if b != nil {
		socket.Give(b[:cap(b)])
	}
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
