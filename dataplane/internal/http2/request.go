package http2

import (
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// list implements side: it decodes a header list and begins or ends a request with it.
func (c *serverConn) list(id uint32, block []byte, end, itself bool) error {
	if id <= c.lastID {
		return c.trailers(id, block, end)
	}
	c.lastID = id
	s := c.server.streams.Get().(*serverStream)
	c.fields.begin(&s.Request.Header, ofRequest)
	if err := c.decode(block); err != nil {
		return err
	}
	var by *worker
	why := codeNo
	switch {
	case c.told:
		why = codeRefusedStream
	case c.fields.malformed != "" || itself || !c.fields.complete():
		why = codeProtocol
	case end && c.fields.length > 0:
		why = codeProtocol
	}
	if why == codeNo {
		c.locked(func() {
			if len(c.streams) >= maxExchanges || len(c.streams) >= maxStreams && c.open() >= maxStreams {
				why = codeRefusedStream
				return
			}
			s.open(c, id)
			s.remoteEnded = end
			s.declared = c.fields.length
			c.streams[id] = &s.streamFlow
			by = c.takeWorker()
		})
	}
	if why != codeNo {
		s.Exchange.Reset()
		c.server.streams.Put(s)
		return c.refuseStream(id, why)
	}
	s.opaque = c.fields.method == "CONNECT" && !c.fields.hasProtocol
	s.request(&c.fields, end)
	c.start(s, by)
	return nil
}

// open returns how many streams are open for the client. The mutex is held.
func (c *serverConn) open() int {
	n := 0
	for _, f := range c.streams {
		if !f.reset && (!f.localEnded || !f.remoteEnded) {
			n++
		}
	}
	return n
}

// complete reports whether a request's pseudo-header fields are all there (RFC 9113 section 8.3.1).
func (l *list) complete() bool {
	if l.tooLarge {
		return true // refused in a better way
	}
	if l.hasProtocol { // RFC 8441 section 4
		return l.method == "CONNECT" && l.hasScheme && l.hasPath && l.path != "" && (l.scheme == "http" || l.scheme == "https") && l.hasA && l.length < 0
	}
	if l.method == "CONNECT" {
		return !l.hasScheme && !l.hasPath && l.hasA && l.length < 0 // RFC 9113 section 8.5
	}
	return l.hasMethod && l.hasScheme && l.hasPath && l.path != "" && (l.scheme == "http" || l.scheme == "https")
}

// request makes the exchange that of a decoded list.
func (s *serverStream) request(l *list, end bool) {
	x := &s.Exchange
	x.From(s.conn.peer)
	x.Down, x.Shard = s, s.conn.shard
	x.Start = time.Now()
	s.since = x.Start
	x.Now = x.Start
	req := &x.Request
	req.Version = exchange.HTTP2
	if l.tooLarge {
		s.refuse(&fault.Error{Code: fault.HeadersTooLarge, Reason: "the header fields are larger than the node's limits allow"})
		return
	}
	if l.refused != nil {
		s.refuse(l.refused)
		return
	}
	if l.crumbs.Len() > 0 {
		req.Header.Set("cookie", l.crumbs.String())
	}
	req.Host, req.Expects100, req.AcceptsTrailers, req.HasVia = l.authority, l.expects, l.acceptsTrailers, l.hasVia
	switch {
	case end:
		req.ContentLength = 0
	default:
		req.ContentLength = l.length
	}
	method := l.method
	if l.hasProtocol {
		if !exchange.EqualFold(l.protocol, exchange.WebSocket) {
			s.refuse(&fault.Error{Code: fault.NotImplemented, Reason: "the protocol that the stream is opened for is not spoken"})
			return
		}
		// To all later steps it is the request that it would be in HTTP/1.1. What follows is not a body.
		method, req.Upgrade, req.ContentLength = "GET", exchange.WebSocket, 0
	}
	if err := codec.ReadTarget(req, method, l.path, s.conn.server.limits.MaxTargetBytes); err != nil {
		s.refuse(err)
	}
}

func (s *serverStream) refuse(why *fault.Error) {
	s.Request.Header.Reset() // perhaps only a part of it
	s.SetID(exchange.OwnRequestID)
	s.Exchange.Fail(why.Code, why.Reason)
}

// run takes the exchange to its end, on the goroutine of a worker.
func (s *serverStream) run(w *worker) {
	c := s.conn
	defer c.running.Done()
	defer c.rescue() // the stream is not used again then
	c.server.handler.Serve(&s.Exchange)
	reset, last := s.leave(w)
	if reset {
		c.flush()
	}
	s.close()
	c.server.streams.Put(s)
	if last {
		c.sock.Interrupt()
	}
}

// leave takes the stream off its connection. reset tells that there is something to send for it, and last that the
// connection has no other one and is to end. The worker is idle then, but for what it has left to do.
func (s *serverStream) leave(w *worker) (reset, last bool) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s.id)
	c.rest(w)
	if len(c.streams) == 0 {
		c.idleSince = s.Now
	}
	if c.err == nil && !s.reset {
		switch {
		case !s.localEnded:
			c.out.pending = appendReset(c.out.buf(), s.id, codeInternal)
			reset = true
		case !s.remoteEnded:
			// The rest of the request is not wanted (RFC 9113 section 8.1).
			c.out.pending = appendReset(c.out.buf(), s.id, codeNo)
			reset = true
		}
		if reset {
			c.forget(s.id)
		}
	}
	if s.answered && !s.peerReset {
		c.resets.earn(1)
		c.idle.earn(earnedByExchange)
	}
	return reset, len(c.streams) == 0 && c.server.leaving.Load() && (c.asked.IsZero() || c.server.draining.Load())
}
