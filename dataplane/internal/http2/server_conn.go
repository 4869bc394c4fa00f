package http2

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// serverConn is a client's connection: a connection whose other side opens the streams. Each one's exchange runs in a
// goroutine of its own.
type serverConn struct {
	connection
	server  *Server
	peer    *exchange.Peer
	shard   uint32
	asked   time.Time      // when the client was asked to open no more streams; mu protects it
	told    bool           // it was told which stream is the last
	parted  bool           // the client has said that it opens no more streams
	running sync.WaitGroup // exchanges
	workers sync.WaitGroup
	// idleWorkers wait for streams; the mutex protects them.
	idleWorkers []*worker
	born        time.Time
	// lookedAt is when it was last looked whether something is overdue. The reading goroutine's.
	lookedAt  time.Time
	idleSince time.Time   // when the last exchange ended, while there is none; the mutex protects it
	resets    tokenBucket // of requests that are broken off too early; the mutex protects it
	partial   partialData
}

func newServerConn(s *Server, sock *socket.Conn, peer *exchange.Peer) *serverConn {
	c := &serverConn{server: s, peer: peer, shard: s.shards.Add(1)}
	c.panicked = s.panicked
	c.init(sock, c, s.limits.MaxHeadBytes, s.limits.MaxFields)
	c.writeTimeout, c.idleTimeout = s.limits.WriteTimeout, s.limits.IdleTimeout
	c.resets = newTokenBucket(maxResets, resetsRate)
	c.recv.reset(connWindow)
	c.takes = socket.Pace{Least: s.limits.MinRate, Over: s.limits.WriteTimeout}
	c.born = time.Now()
	c.idleSince = c.born
	c.arrivedFn = c.took
	return c
}

// opened implements side: streams of clients have odd numbers.
func (c *serverConn) opened(id uint32) bool { return id <= c.lastID && id%2 == 1 }

// brokenOff implements side: a request that is broken off at once has cost us, and perhaps a service, something for
// nothing (CVE-2023-44487), whether the client has done so itself or by breaking a rule (CVE-2025-8671). One that was
// answered, or that the client has waited for, has not.
func (c *serverConn) brokenOff(f *streamFlow) error {
	now := c.clock()
	if f.answered || now.Sub(f.since) >= waitedFor || c.resets.spend(now) {
		return nil
	}
	return codeEnhanceCalm
}

// setting implements side.
func (c *serverConn) setting(uint16, uint32) {}

// goAway implements side: the client opens no more streams. Those that it has are served, and then the connection is
// closed, since clients wait for that; an end of theirs that came with the frame would not be announced (see
// socket.Conn.Each).
func (c *serverConn) goAway(uint32, code) {
	c.parted, c.idleTimeout = true, 0
	c.sock.ReadWithin(time.Now(), time.Millisecond)
}

// serve serves the connection to its end.
func (c *serverConn) serve() {
	c.read()
	c.end()
}

// read says hello, and reads until the connection is over.
func (c *serverConn) read() {
	defer func() {
		if v := recover(); v != nil {
			c.defect(v)
			c.ended = codeInternal
			c.locked(func() {
				if c.out.writing { // perhaps it is this goroutine, which does so no more: there is no last word
					c.fail(errDefect)
				}
			})
		}
	}()
	c.locked(func() {
		b := appendFrameHead(c.out.buf(), 24, frameSettings, 0, 0)
		b = appendSetting(b, settingEnableConnect, 1)
		b = appendSetting(b, settingMaxConcurrentStreams, maxStreams)
		b = appendSetting(b, settingInitialWindowSize, streamWindow)
		b = appendSetting(b, settingMaxHeaderListSize, uint32(c.server.limits.MaxHeadBytes))
		c.out.pending = appendWindowUpdate(b, 0, connWindow-initialWindow)
	})
	c.flush()
	if len(c.sock.Buffered()) > 0 {
		c.arrived()
	}
	c.wait(c.server.limits.HeadTimeout)
	if c.server.draining.Load() {
		c.wait(settleTime)
	}
	for c.ended == nil {
		if err := c.sock.Each(c.arrivedFn); err != nil && !c.goesOn(err) {
			break
		}
	}
}

// goesOn decides what the end of a wait means.
func (c *serverConn) goesOn(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.ended = err
		return false
	}
	var idle, dead bool
	c.locked(func() { idle, dead = len(c.streams) == 0, c.err != nil })
	switch {
	case dead:
		c.ended = c.err
		return false
	case c.server.draining.Load():
		return c.leave(idle)
	case c.sock.Interrupted():
		c.depart()
		return true
	case idle && (c.parted || !c.greeted):
		c.ended = codeNo
		return false
	case c.parted:
		c.wait(settleTime)
		return true
	}
	now := time.Now()
	left, why := c.left(now)
	if left <= 0 {
		c.ended = why
		return false
	}
	c.dismiss()
	c.wait(left) // the next call of Each begins with a look
	return true
}

// took takes in what has come, and looks now and then whether something is overdue: a client that always sends
// something never lets a wait end.
func (c *serverConn) took() bool {
	if !c.arrived() {
		return false
	}
	if !c.greeted || c.idleTimeout <= 0 { // it is not what this client is waited for
		return true
	}
	now := time.Now()
	if c.partly() && c.partSince.IsZero() {
		c.partSince = now
	}
	c.partial.note(c.sock.Buffered(), now.Sub(c.born))
	if now.Sub(c.lookedAt) >= lookAfter {
		c.lookedAt = now
		if left, why := c.left(now); left <= 0 {
			c.ended = why
			return false
		}
	}
	c.sock.ReadWithin(now, min(c.idleTimeout, lookAfter))
	return true
}

// left returns how much longer the client may leave it at what it has sent, and how the connection ends then.
func (c *serverConn) left(now time.Time) (left time.Duration, why code) {
	limits := &c.server.limits
	left, why = limits.IdleTimeout, codeNo
	c.locked(func() {
		if len(c.streams) == 0 {
			left -= now.Sub(c.idleSince)
		}
	})
	if c.partSince.IsZero() {
		return left, why
	}
	within := limits.HeadTimeout
	if have := c.sock.Buffered(); len(have) >= frameHeadBytes && c.blockID == 0 {
		if h := parseFrameHead(have); h.kind == frameData { // of a body, which may come slowly
			if limits.MinRate <= 0 {
				return left, why
			}
			within = limits.BodyTimeout + time.Duration(h.length)*time.Second/time.Duration(limits.MinRate)
		}
	}
	if part := within - now.Sub(c.partSince); part < left {
		return part, codeEnhanceCalm
	}
	return left, why
}

// leave goes through the steps of a graceful end (RFC 9113 section 6.8): the client is asked to open no more streams;
// what it opened before it heard is served; then it is told which stream was the last.
func (c *serverConn) leave(idle bool) bool {
	c.idleTimeout = 0
	left := settleTime
	if c.asked.IsZero() {
		c.ask()
	} else if left -= time.Since(c.asked); left <= 0 && !c.told {
		c.told = true
		c.send(appendGoAway(nil, c.lastID, codeNo))
	}
	if c.told {
		if left = settleTime; idle {
			c.ended = codeNo
			return false
		}
	}
	c.sock.ResumeReads()
	c.wait(max(left, time.Millisecond))
	return true
}

// depart asks the client to open no more streams, if it has had one, and goes on.
func (c *serverConn) depart() {
	if c.asked.IsZero() && c.lastID > 0 {
		c.ask()
	}
	c.sock.ResumeReads()
	switch {
	case !c.greeted:
		c.wait(c.server.limits.HeadTimeout)
	case c.parted:
		c.wait(settleTime)
	default:
		c.wait(lookAfter)
	}
}

func (c *serverConn) ask() {
	c.locked(func() { c.asked = time.Now() })
	c.send(appendGoAway(nil, maxWindow, codeNo))
}

// end closes the connection. A client that broke the rules is told which, and left a moment to hear it.
func (c *serverConn) end() {
	defer c.rescue()
	var why code
	said := errors.As(c.ended, &why)
	if said {
		c.sendLast(appendGoAway(nil, c.lastID, why))
	}
	c.locked(func() { c.fail(io.ErrClosedPipe) })
	c.running.Wait()
	c.dismiss()
	c.workers.Wait()
	c.writers.Wait()
	c.locked(func() {
		c.out.pending = c.out.pending[:0]
		c.release()
	})
	if said && why != codeNo {
		c.linger()
	}
	_ = c.sock.Close()
}
