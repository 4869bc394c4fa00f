package http1

import (
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/socket"
)

// A connection that is used all the time is served in a loop, with many others in one goroutine, as long as that never
// has to wait for anything: requests come whole, responses are taken at once, the service answers soon. Whenever it
// would have to wait, the connection leaves for a goroutine of its own, and comes back when its requests are simple
// again.

// ServeIn makes connections that have brought a number of simple requests in a row, such as JoinAfter, be served in
// loops, where the handler can do that. It is called before the first Serve.
func (s *Server) ServeIn(loops *socket.Loops, joinAfter uint16) {
	if loopHandler, ok := s.handler.(codec.LoopHandler); ok {
		s.loopHandler, s.loops, s.joinAfter = loopHandler, loops, joinAfter
	}
}

// The states of a place: who works on the connection.
const (
	inGoroutine uint32 = iota // its goroutine
	idleInLoop                // nobody: it waits in its loop
	busyInLoop                // a loop's goroutine, or an exchange that has been started there
	busyAgain                 // the same, and something has arrived meanwhile
)

// JoinAfter is how many simple requests in a row a connection has to bring at first to be served in a loop: moving
// there and back costs as much as a few tenths of a request. It takes twice as many, up to maxJoinAfter, after a stay
// that was no longer than that.
const (
	JoinAfter    = 8
	maxJoinAfter = 4096
)

// patience is how long an exchange may take in a loop; then it goes on in a goroutine of its own, where every time
// limit is kept.
const patience = 2 * socket.LoopTick

// maxIdleTicks is how many ticks a connection may be idle in its loop before it leaves.
const maxIdleTicks = uint32(parkAfter / socket.LoopTick)

// joins reports whether the connection is to be served in a loop.
func (c *conn) joins() bool {
	return c.quick >= c.place.joinAfter && c.server.loops != nil && c.sock.CanLoop()
}

// join moves a connection that waits for a request into a loop. Its goroutine must not touch it any more when that is
// done.
func (c *conn) join() bool {
	if !c.joins() || c.server.draining.Load() {
		return false
	}
	c.quick = 0
	loop := c.server.loops.Any()
	c.becomeIdle(c.finishedAt)
	c.idle.Store(false) // where says so from now on
	c.place.loop, c.place.joinedAt = loop, c.turns.Load()
	c.place.idleTicks.Store(0)
	c.place.mu.Lock() // who evicts the connection from here on needs the registration to leave
	defer c.place.mu.Unlock()
	c.place.state.Store(idleInLoop)
	reg, taken := loop.Add(c.sock, c, socket.Downstream)
	if !taken {
		if !c.place.state.CompareAndSwap(idleInLoop, inGoroutine) {
			return true // who has evicted it goes on with it
		}
		c.idle.Store(true)
		return false
	}
	c.place.registration = reg
	if c.server.draining.Load() || c.sock.Aborted() { // Drain or Cut may have been there before
		c.evict()
	}
	return true
}

// OnReadable implements socket.EventHandler.
func (c *conn) OnReadable(ended bool) bool {
	for {
		switch c.place.state.Load() {
		case idleInLoop:
			if c.place.state.CompareAndSwap(idleInLoop, busyInLoop) {
				c.place.arrival.ended = ended
				return true
			}
		case busyInLoop:
			if c.place.state.CompareAndSwap(busyInLoop, busyAgain) {
				return false
			}
		default:
			return false
		}
	}
}

// arrival is what has arrived in a loop. ended tells that the peer's end is among it, or may be.
type arrival struct {
	got, ended bool
	err        error
	at         time.Time // of the first request; zero: not known
}

// Receive implements socket.EventHandler.
func (c *conn) Receive() bool {
	defer c.rescueReceive()
	c.place.arrival.got, c.place.arrival.err = c.sock.ReceiveIn(c.place.loop)
	c.place.arrival.at = c.place.loop.PolledAt()
	return true
}

// lookAgain looks for what has arrived after that.
func (c *conn) lookAgain() {
	c.place.arrival.got, c.place.arrival.err = c.sock.ReceiveIn(c.place.loop)
	c.place.arrival.at = time.Time{}
}

// Serve implements socket.EventHandler: it serves what has arrived.
func (c *conn) Serve() {
	defer c.rescueInLoop()
	for {
		switch a := &c.place.arrival; {
		case a.err != nil:
			c.ended = true
			c.goOn()
			return
		case a.got && !c.proceed():
			return
		case a.got && (a.ended || c.sock.LeftMore()):
			c.sock.Release()
		case c.settle():
			return
		default:
			a.ended = true // perhaps
		}
		c.lookAgain()
	}
}

// Tick implements socket.EventHandler: a connection that is not used any more leaves.
func (c *conn) Tick() {
	if turns := c.turns.Load(); c.place.tickTurns.Swap(turns) != turns {
		c.place.idleTicks.Store(0)
	} else if c.place.idleTicks.Add(1) >= maxIdleTicks {
		c.evict()
	}
}

// evict makes an idle connection leave its loop. Any goroutine may call it.
func (c *conn) evict() {
	if c.place.state.CompareAndSwap(idleInLoop, busyInLoop) {
		go func() {
			defer c.rescue()
			c.Leave()
			c.wake()
		}()
	}
}

// settle makes the connection wait for a request, and reports whether there is none yet. If so, it is not the caller's
// any more.
func (c *conn) settle() bool {
	c.sock.ReleaseIn(c.place.loop)
	c.sock.SetSize(socket.HeadSize)
	c.idleSince = c.finishedAt
	if c.sock.LeftMore() { // nothing announces it
		return false
	}
	if !c.place.state.CompareAndSwap(busyInLoop, idleInLoop) {
		c.place.state.Store(busyInLoop)
		return false
	}
	if c.server.draining.Load() || c.sock.Aborted() {
		c.evict()
	}
	return true
}

// proceed serves the requests that are buffered, and reports whether the connection may wait for more in the loop now.
// Otherwise it is not the caller's any more: an exchange is under way, or it has left.
func (c *conn) proceed() bool {
	for len(c.sock.Buffered()) > 0 {
		if !c.complete() {
			c.goOn()
			return false
		}
		x := c.open()
		if x == nil {
			c.ended = true
			c.goOn()
			return false
		}
		if !c.server.loopHandler.Start(x, c) || !c.conclude() {
			return false
		}
	}
	return true
}

// conclude ends an exchange, and reports whether the connection stays in the loop.
func (c *conn) conclude() bool {
	if !c.over() {
		c.ended = true
	}
	if c.ended || c.sock.HasPending() || c.server.draining.Load() || c.sock.Aborted() {
		c.goOn()
		return false
	}
	return true
}

// goOn goes on with the connection in a goroutine of its own.
func (c *conn) goOn() {
	go func() {
		defer c.rescue()
		c.Leave()
		c.sock.ResumeReads()
		if c.sock.HasPending() { // also where the connection ends: it is of a response
			c.sock.WriteWithin(time.Now(), c.server.limits.WriteTimeout)
			if err := c.sock.FlushPending(); err != nil {
				c.ended, c.req.writeErr = true, err // there is nobody to linger for
			}
		}
		c.run()
	}()
}

// Loop implements codec.LoopConn.
func (c *conn) Loop() *socket.Loop { return c.place.loop }

// Leave implements codec.LoopConn.
func (c *conn) Leave() {
	if c.turns.Load()-c.place.joinedAt <= uint32(c.place.joinAfter) {
		c.place.joinAfter = min(2*c.place.joinAfter, maxJoinAfter)
	}
	c.place.joinAfter = max(c.place.joinAfter, 1)
	c.place.mu.Lock()
	c.place.registration.Leave(c.sock)
	c.place.registration = socket.Registration{}
	c.place.mu.Unlock()
	c.place.arrival = arrival{}
	c.place.state.Store(inGoroutine)
}

// Flush implements codec.LoopConn.
func (c *conn) Flush() error {
	kept := c.req.kept
	if kept == nil {
		return nil
	}
	c.req.kept = nil
	err := c.write(c.req.x.Now, kept, nil)
	c.giveRoom(kept)
	return err
}

// Over implements codec.LoopConn.
func (c *conn) Over() {
	if c.place.state.Load() == inGoroutine {
		defer c.rescue()
		if !c.over() {
			c.ended = true
		}
		c.sock.ResumeReads()
		c.run()
		return
	}
	defer c.rescueInLoop()
	if c.conclude() && c.proceed() && !c.settle() {
		c.place.arrival.ended = true // perhaps
		c.lookAgain()
		c.Serve()
	}
}
